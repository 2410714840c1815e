"""Pages: feedback for each learner, the class for the instructor. Whole files: no script, nothing from elsewhere.

Every text goes through `text`, which escapes it: nothing that a learner wrote becomes HTML. Signs and words carry what
the colours say, by day, by night and on paper.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from prefcourse.grading.batch import write_whole
from prefcourse.grading.reports import words
from prefcourse.grading.result import CheckResult, Result, State, Status

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5c5c5c; --line: #d8d8d8; --ground: #fff; --card: #f6f6f4;
  --yes: #00694c; --no: #a8440a; --bar: #0072b2; --rest: #e3e3e0 }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e6; --soft: #a5a5a0; --line: #45454a; --ground: #18181a;
  --card: #232326; --yes: #4fc9a0; --no: #f0935a; --bar: #56b4e9; --rest: #3a3a40 } }
@media print { :root { --ink: #000; --soft: #333; --line: #bbb; --ground: #fff; --card: #fff; --yes: #00543c;
  --no: #8a3400; --bar: #333; --rest: #ddd } body { margin: 0 } tr, .card { break-inside: avoid }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 62rem;
  margin: 2.5rem auto; padding: 0 1.2rem; overflow-wrap: anywhere }
h1, h2 { line-height: 1.2 } h1 { margin-bottom: .2rem } h2 { margin-top: 2.4rem } .soft { color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% } a { color: var(--bar) }
th, td { padding: .45rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { font-weight: 600; white-space: nowrap } .number { text-align: right; white-space: nowrap }
td { font-variant-numeric: tabular-nums } .tight { white-space: nowrap }
.yes { color: var(--yes); font-weight: 600 } .no { color: var(--no); font-weight: 600 }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem;
  margin: 1rem 0 }
.big { font-size: 1.9rem; font-weight: 650; line-height: 1.2 }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem }
.cards .card { margin: 0 } .bar { display: block; height: .6rem; min-width: 6rem; border-radius: 3px;
  background: linear-gradient(90deg, var(--bar) var(--part), var(--rest) var(--part)) }
.bars { display: grid; grid-template-columns: max-content 1fr max-content; gap: .25rem .8rem; align-items: center }
@media (max-width: 40rem) { .tight { white-space: normal; overflow-wrap: normal } th, td { padding: .4rem .35rem } }
.bar + .wide { margin-top: 1.2rem } ul { padding-left: 1.2rem } td ul { margin: .1rem 0 } code { font-size: .92em }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # should an escape ever be forgotten, the browser stops it


def write(results: Sequence[Result], folder: Path, batch: dict) -> None:
    pages = folder / "feedback"
    pages.mkdir(exist_ok=True)
    told = {pages / f"{words.file_name(result)}.html": feedback(result) for result in results}
    for old in {*pages.glob("*.html")} - {*told}:  # of a file that was handed in again meanwhile
        old.unlink()
    for path, content in told.items():
        write_whole(path, content)
    write_whole(folder / "overview.html", overview(results, batch))


def text(given: object) -> str:
    return escape(words.clean(str(given)))


def page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="referrer" content="no-referrer">
<title>{text(title)}</title><style>{STYLE}</style></head><body>
{body}
</body></html>
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], css: Sequence[str]) -> str:
    """Cells are HTML; each column has its class."""
    columns = [f' class="{name}"' if name else "" for name in css]

    def line(kind: str, cells: Sequence[str]) -> str:
        return "".join(f"<{kind}{c}>{cell}</{kind}>" for c, cell in zip(columns, cells, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{line("th", head)}</tr></thead><tbody>\n{body}</tbody></table></div>'


def bar(part: float) -> str:
    return f'<span class="bar" style="--part: {100 * part:.0f}%" aria-hidden="true"></span>'


def verdict(check: CheckResult) -> str:
    sign, word = words.SIGNS[check.status]
    css = "yes" if check.status == Status.PASSED else "no"
    return f'<span class="{css}">{sign} {word}</span>'


def listed(items: Iterable[object]) -> str:
    return f"<ul>{''.join(f'<li>{text(item)}</li>' for item in items)}</ul>"


# --- for one learner ---------------------------------------------------------------------------------------


def feedback(result: Result) -> str:
    """What one learner may read."""
    rows = [
        [verdict(c), f"<b>{text(c.exercise)}</b> <code>{text(c.function)}</code>", text(words.sentence(c)), _worth(c)]
        for c in result.checks
    ]
    css = ["tight", "tight", "", "number"]
    checks = table(["", "exercise", "what the checks say", "points"], rows, css) if rows else ""
    stopped = f'<div class="card"><b class="no">⚠ {result.state.value}</b><br>{text(words.reason(result))}</div>'
    score = f'<p class="big">{words.points(result)} points</p>{bar(words.share(result))}' if rows else ""
    notes = f"<h2>Notes</h2>{listed(result.notes)}" if result.notes else ""
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    return page(
        f"Feedback for {result.student}",
        f"""<h1>{text(words.title(result.chapter))}</h1>
<p class="soft">{text(result.student)} · {text(result.submission)}</p>
{stopped if result.state != State.GRADED else ""}{score}
{checks}{notes}
<p class="soft">The checks run your functions on inputs other than those in the notebook, so that only the idea counts.
{text(versions)}</p>""",
    )


def _worth(check: CheckResult) -> str:
    return f"{words.number(check.points)} of {words.number(check.max_points)}"


# --- for the instructor ------------------------------------------------------------------------------------


class Standing(NamedTuple):
    """How the class did in one exercise."""

    chapter: str
    exercise: str
    function: str
    checks: list[CheckResult]

    @property
    def passed(self) -> float:
        return sum(check.status == Status.PASSED for check in self.checks) / len(self.checks)

    @property
    def mistakes(self) -> list[tuple[tuple[str, str], int]]:
        """(mutant, its sentence) and how often, the most frequent first."""
        known = Counter((check.mutant, check.sentence) for check in self.checks if check.mutant)
        return known.most_common()


def standings(results: Sequence[Result]) -> list[Standing]:
    """The hardest exercise first."""
    found: dict[tuple, list[CheckResult]] = {}
    for result in results:
        for check in result.checks:
            found.setdefault((result.chapter, check.exercise, check.function), []).append(check)
    return sorted((Standing(*key, checks) for key, checks in found.items()), key=lambda s: s.passed)


def overview(results: Sequence[Result], batch: dict) -> str:
    """Which exercise, which misconception, how often; who needs a look; everybody."""
    told = [f"{len(results)} submissions", f"shard {batch['shard']}" if batch.get("shard", "1/1") != "1/1" else ""]
    told += [f"sandbox {batch.get('sandbox', '?')}", f"seed {batch.get('seed', '?')}"]
    return page(
        "The class",
        f"""<h1>The class</h1><p class="soft">{text(" · ".join(filter(None, told)))}</p>
{_numbers(results)}
<h2>Exercises, the hardest first</h2>{_exercises(results)}
<h2>Points</h2>{_histogram(results)}
{_attention(results)}
<h2>Everybody</h2>{_everybody(results)}""",
    )


def _numbers(results: Sequence[Result]) -> str:
    shares = [100 * words.share(r) for r in results if r.checks and r.state not in words.UNGRADED]
    states = Counter(result.state for result in results)
    cards = {state.value: str(states[state]) for state in State if states[state] or state == State.GRADED}
    if shares:
        cards |= {"mean": f"{statistics.mean(shares):.0f} %", "median": f"{statistics.median(shares):.0f} %"}
    inside = (f'<div class="card"><div class="big">{n}</div>{name}</div>' for name, n in cards.items())
    return f'<div class="cards">{"".join(inside)}</div>'


def _exercises(results: Sequence[Result]) -> str:
    def row(standing: Standing) -> list[str]:
        count = len(standing.checks)
        how = Counter(words.SIGNS[check.status][1] for check in standing.checks)
        mistakes = [f"{n} × {sentence or mutant}" for (mutant, sentence), n in standing.mistakes]
        others = ", ".join(f"{n} {word}" for word, n in how.most_common() if word != "passed")
        return [
            f"<b>{text(standing.exercise)}</b> <code>{text(standing.function)}</code>",
            f"{bar(standing.passed)}{100 * standing.passed:.0f} % of {count}",
            f'{listed(mistakes) if mistakes else ""}<span class="soft">{text(others)}</span>',
        ]

    rows = [row(standing) for standing in standings(results)]
    head = ["exercise", "passed", "known mistakes, and other outcomes"]
    return table(head, rows, ["tight", "tight", ""]) if rows else "<p>No exercise was graded.</p>"


def _histogram(results: Sequence[Result]) -> str:
    """How many reached which fifth of the points."""
    shares = [words.share(r) for r in results if r.checks and r.state not in words.UNGRADED]
    if not shares:
        return "<p>None.</p>"
    fifths = Counter(min(4, int(5 * share)) for share in shares)
    most = max(fifths.values())
    lines = (
        f"<span>{20 * n} to {20 * n + 20} %</span>{bar(fifths[n] / most)}<span>{fifths[n]}</span>" for n in range(5)
    )
    return f'<div class="bars">{"".join(lines)}</div>'


def _attention(results: Sequence[Result]) -> str:
    """What a person should look at: not graded, or with a note."""
    rows = [
        [_link(r), _state(r), listed(filter(None, [r.reason, *words.notes(r)]))]
        for r in sorted(results, key=lambda r: r.state == State.GRADED)
        if r.state != State.GRADED or words.notes(r)
    ]
    shown = table(["submission", "state", "why"], rows, ["", "tight", ""])
    return f"<h2>Worth a look ({len(rows)})</h2>{shown}" if rows else ""


def _everybody(results: Sequence[Result]) -> str:
    numbers = words.exercises(results)

    def row(result: Result) -> list[str]:
        found = {check.exercise: check for check in result.checks}
        cells = [_mark(found[n]) if n in found else "" for n in numbers]
        return [_link(result), *cells, words.points(result) if result.checks else "", _state(result)]

    css = ["", *("number" for _ in numbers), "number", "tight"]
    return table(["submission", *map(text, numbers), "points", "state"], map(row, results), css)


def _mark(check: CheckResult) -> str:
    sign, word = words.SIGNS[check.status]
    css = "yes" if check.status == Status.PASSED else "no"
    return f'<span class="{css}" title="{word}">{sign} {words.number(check.points)}</span>'


def _state(result: Result) -> str:
    good = result.state == State.GRADED
    return f'<span class="{"yes" if good else "no"}">{"✓" if good else "⚠"} {result.state.value}</span>'


def _link(result: Result) -> str:
    name = f'<a href="feedback/{words.file_name(result)}.html">{text(result.student)}</a>'
    return f'{name}<br><span class="soft">{text(result.submission)}</span>'

"""A run's numbers for readers: a table for the terminal, and one HTML file that needs nothing else.

Knows words and layout. Every number comes from metrics.json; nothing is computed here but differences.
"""

from __future__ import annotations

import base64
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --soft: #5c5c5c; --line: #d8d8d8; --ground: #fff; --card: #f6f6f4 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e6; --soft: #a5a5a0; --line: #45454a; --ground: #18181a; --card: #232326 } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 68rem;
  margin: 2.5rem auto; padding: 0 1.2rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.4rem } .soft { color: var(--soft) }
.wide { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
.numbers td, .numbers th { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.numbers :is(td, th):first-child { text-align: left } th { font-weight: 600 }
.answers { table-layout: fixed; min-width: 52rem } .answers th:first-child { width: 8rem }
figure { margin: 1rem 0 } img { max-width: 100%; background: #fff; border-radius: 6px; padding: .5rem }
.why { font-size: .82rem; color: var(--soft) } b { font-variant-numeric: tabular-nums }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem } dt { font-weight: 600 }
dd { margin: 0; color: var(--soft) }
"""
COLUMNS = {  # name: (key in metrics, digits, what it means)
    "gold": ("gold", 2, "The true reward, which only this world knows: right facts help, filler and flattery hurt."),
    "score": ("score", 2, "What the reward model says. SFT's answers have mean 0 and standard deviation 1."),
    "KL": ("kl", 2, "How far the policy has moved from SFT, in nats per answer. The honest price of every gain."),
    "length": ("length", 1, "Words per answer, the end included."),
    "distinct": ("distinct", 2, "Different answers among the samples of a prompt: 1 if all differ."),
    "wins": ("win_rate", 0, "How often its gold beats that of SFT's answer to the same prompt, with a 95 % interval."),
    "new things": ("gold_on_new_things", 2, "Gold on things that no preference was ever asked about."),
    "counting": ("second_skill", 0, "Right answers to 'count from 3 to 6 .': is the other skill forgotten?"),
}
PERCENT = ("win_rate", "second_skill")


def cell(row: dict, key: str, digits: int) -> str:
    """One number as text, with its standard error or interval where there is one."""
    value = row.get(key)
    if value is None:
        return "–"
    if key in PERCENT:
        interval = f" [{100 * row['win_low']:.0f}, {100 * row['win_high']:.0f}]" if key == "win_rate" else ""
        return f"{100 * value:.0f} %{interval}"
    error = row.get(f"{key}_se")
    return f"{value:z.{digits}f}" + (f" ± {error:.{digits}f}" if error is not None else "")


def table(metrics: dict) -> list[list[str]]:
    """Header and a row for each policy."""
    rows = [
        [name, *(cell(row, *column[:2]) for column in COLUMNS.values())] for name, row in metrics["policies"].items()
    ]
    return [["", *COLUMNS], *rows]


def as_text(metrics: dict) -> str:
    """The table and the answers to the first question, for the terminal."""
    rows = table(metrics)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    first = metrics["samples"][0]
    answers = [f"  {name:>4} ({a['gold']:+.1f})  {a['text'] or '(nothing)'}" for name, a in first["answers"].items()]
    return "\n".join([*lines, "", f"  {first['prompt']}", *answers])


def findings(metrics: dict) -> list[str]:
    """Sentences that hold whatever the numbers are."""
    rows, pairs, moved = metrics["policies"], metrics["pairs"], metrics["dpo"]["displacement"]
    right, gold = ("{:.0f} % [{:.0f}, {:.0f}]".format(*(100 * share for share in judged.values()))
                   for judged in (metrics["reward_model"]["accuracy"], pairs["gold_agrees"]))  # fmt: skip
    told = [f"Of {pairs['held_out']} held-out labels the reward model predicts {right}, the true reward {gold}."]
    if pairs["ceiling"] is not None:
        told.append(
            f"These annotators err: no reward model can expect to predict more than {100 * pairs['ceiling']:.0f} %."
        )
    for name in ("PPO", "DPO"):
        before, after, kl = rows["SFT"]["gold"], rows[name]["gold"], rows[name]["kl"]
        verb = "raises" if after > before else "lowers"
        told.append(f"{name} {verb} gold from {before:.2f} to {after:.2f}, at a KL of {kl:.2f} nats from SFT.")
    change = "{chosen:+.1f} nats on average, that of rejected ones by {rejected:+.1f}".format(**moved)
    told.append(f"DPO changed the log-probability of chosen answers by {change}: it trains only the difference.")
    dropped = "; ".join(f"{count} × {reason}" for reason, count in pairs["dropped"].items())
    return told + ([f"Pairs left out: {dropped}."] if dropped else [])


def html_table(rows: list[list[str]], css: str) -> str:
    """A table whose first row is its head. Cells are HTML: text is escaped by the caller."""
    kinds = ["th", *("td" for _ in rows[1:])]
    lines = ["".join(f"<{kind}>{cell}</{kind}>" for cell in row) for kind, row in zip(kinds, rows, strict=True)]
    return f'<div class="wide"><table class="{css}"><tr>{"</tr><tr>".join(lines)}</tr></table></div>'


def answer_html(answer: dict) -> str:
    """An answer, its gold, and the world's reasons."""
    why = "<br>".join(map(escape, answer["why"]))
    text = escape(answer["text"]) or "<i>(nothing)</i>"
    return f'<b>{answer["gold"]:+.1f}</b> {text}<div class="why">{why}</div>'


def as_html(metrics: dict, picture: bytes) -> str:
    """The whole report as one page: no script, no font, no picture from elsewhere."""
    settings, cost, samples = metrics["settings"], metrics["cost"], metrics["samples"]
    source = f"pairs of {settings['pairs_file']}" if settings["pairs_file"] else f"{settings['annotators']} annotators"
    total = f"{sum(cost['seconds'].values()):.0f} s of work"
    memory = f", at most {cost['memory_mb']:.0f} MB of memory" if cost["memory_mb"] else ""
    meaning = "".join(f"<dt>{name}</dt><dd>{escape(column[2])}</dd>" for name, column in COLUMNS.items())
    numbers = html_table([[escape(text) for text in row] for row in table(metrics)], "numbers")
    asked = [[f"<b>{escape(row['prompt'])}</b>", *map(answer_html, row["answers"].values())] for row in samples]
    answers = html_table([["", *map(escape, samples[0]["answers"])], *asked], "answers")
    stages = [name + " (cached)" * (name in cost["from_cache"]) for name in cost["seconds"]]
    seconds = html_table([stages, [f"{value:.1f}" for value in cost["seconds"].values()]], "numbers")
    chosen = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in settings.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>prefcourse run {settings["seed"]}</title><style>{STYLE}</style></head><body>
<h1>From nothing to PPO and DPO</h1>
<p class="soft">Seed {settings["seed"]}, size {escape(settings["size"])}, beta {settings["ppo_beta"]:g} (PPO) and
{settings["dpo_beta"]:g} (DPO), {escape(source)}. {total}{memory}.</p>
<ul>{"".join(f"<li>{escape(text)}</li>" for text in findings(metrics))}</ul>
<h2>What each policy is worth</h2>{numbers}
<p class="soft">± is one standard error. Base is the model before any training.</p><dl>{meaning}</dl>
<h2>What it costs in KL</h2>
<figure><img alt="Gold reward against KL from SFT: PPO's path, DPO, and the optimum"
src="data:image/png;base64,{base64.b64encode(picture).decode()}">
<figcaption class="soft">Up is better, left is closer to SFT. The black line is the best that any policy can reach at
its KL, found by reweighting SFT's own answers; dotted where too few of them carry it.</figcaption></figure>
<h2>The same questions, four models</h2>
<p class="soft">One answer each, drawn with the same dice, with gold and the reasons. Not picked by hand.</p>{answers}
<h2>Seconds</h2>{seconds}
<h2>Settings</h2><dl>{chosen}</dl>
<p class="soft">Code version {escape(metrics["code"])}. All numbers: metrics.json, in the same folder.</p>
</body></html>
"""

"""From bundles to words: which properties hold, the first case that fails, the likeliest mistake; as text, as HTML.

Pure functions of what was recorded. Knows nothing of notebooks, and calls no learner's function.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from html import escape

from prefcourse.checks.exercise import Answers, Call, Exercise, Tolerance
from prefcourse.checks.run import Bundle, agreeing, recognise, resembles
from prefcourse.checks.values import difference, in_words, rounded, undefined

WIDTH = 88
ANOTHER_KIND = "Its kind or its shape is not what was asked for: see the note."
UNKNOWN = "None of the mistakes known here gives these values. Do this case by hand and compare step by step."
PRINTED = "What it printed there (this does not count)"
STOPPED = "It stops with an error instead of an answer: read what the error says"


@dataclass(frozen=True)
class Verdict:
    """What a bundle shows of a function. `holds` has a truth per claim, in order."""

    exercise: Exercise
    state: str  # "judged", or why not: "not written", "not a function"
    holds: dict[str, bool] = field(default_factory=dict)
    first: int | None = None  # the place of the first case that fails: of the first such property, the smallest
    mutant: str | None = None  # the slug of the likeliest mistake
    certain: bool = False  # the mutant gives the same on every case

    @property
    def passed(self) -> bool:
        return self.state == "judged" and self.first is None

    @property
    def headline(self) -> str:
        name, kept, of = f"{self.exercise.number} {self.exercise.function}", sum(self.holds.values()), len(self.holds)
        if self.state == "not written":
            return f"{name}: not written yet. Write its body, run its cell, then check again."
        if self.state != "judged":
            return f"{name}: {self.state}"
        if self.passed:
            return f"{name}: solved, all {of} properties hold."
        return f"{name}: not solved yet, {kept} of {of} properties hold{'s' * (kept == 1)}."


def judge(exercise: Exercise, given: Bundle, bundles: dict[str, Bundle]) -> Verdict:
    """`bundles` as from `expected_bundles`, under the seed of `given`."""
    if isinstance(given, dict) and given.get("state"):
        known = given["state"] in ("not written", "not a function")  # a forged "judged" would pass
        return Verdict(exercise, given["state"] if known else "not readable")
    same = agreeing(given, bundles["oracle"])
    holds = dict.fromkeys((case.claim for case in exercise.cases), True)
    for case, agrees in zip(exercise.cases, same, strict=True):
        holds[case.claim] &= agrees
    if all(same):
        return Verdict(exercise, "judged", holds)
    exact, first = recognise(given, bundles), _to_show(exercise, same)
    return Verdict(exercise, "judged", holds, first, exact or resembles(given, bundles, first), bool(exact))


def _to_show(exercise: Exercise, same: list[bool]) -> int:
    """Of the first property that does not hold the failing case that is easiest by hand: the shortest to write."""
    claim = exercise.cases[same.index(False)].claim
    failing = [place for place, case in enumerate(exercise.cases) if case.claim == claim and not same[place]]
    if len(failing) == 1:
        return failing[0]
    calls = exercise.calls()  # the public ones; under a secret seed they are as long
    return min(failing, key=lambda place: len(call_in_words("", calls[place], most=10_000)))


def mistake(verdict: Verdict, answers: Answers) -> str:
    """The sentence for the learner about the likeliest mistake, no surer than we are."""
    sentence = next((mutant.sentence for mutant in answers.mutants if mutant.name == verdict.mutant), None)
    if sentence is None:
        return "" if verdict.first is None else UNKNOWN
    return f"Likeliest mistake: {sentence}" if verdict.certain else f"It may be that {sentence}"


# --- the words of a verdict, before they become text or HTML -----------------------------------------------


@dataclass(frozen=True)
class Words:
    headline: str
    passed: bool
    claims: list[tuple[bool, str]] = field(default_factory=list)
    case: list[tuple[str, str]] = field(default_factory=list)  # label, code
    advice: list[str] = field(default_factory=list)
    printed: str = ""


def words(verdict: Verdict, given: Bundle, expected: Bundle, call: Call | None, said: dict, guess: str) -> Words:
    """`call`, `guess`: inputs of the first case that fails, and the sentence about it."""
    number, claims = verdict.exercise.number, [(holds, claim) for claim, holds in verdict.holds.items()]
    printed = _printed(said, verdict)
    if verdict.passed:
        advice = [f"To compare with the reference, in a terminal: prefcourse hint {number} --reveal"]
        return Words(verdict.headline, True, claims, advice=advice, printed=printed)
    if verdict.first is None:
        stub = next(iter(said.get("messages", {}).values()), "")  # perhaps another one, which this function calls
        own = stub.startswith(f"{verdict.exercise.function} ") or not stub
        return Words(
            verdict.headline if own else f"{number} {verdict.exercise.function}: it calls a stub. {stub}", False
        )
    case = _case_in_words(verdict, given["cases"][verdict.first], expected["cases"][verdict.first], call, said)
    if guess == UNKNOWN:
        message = said.get("messages", {}).get(verdict.exercise.cases[verdict.first].name, "")
        guess = _unknown(given["cases"][verdict.first], expected["cases"][verdict.first], message)
        if guess == UNKNOWN and "; expected " in dict(case).get("note", ""):
            guess = ANOTHER_KIND
    advice = [*filter(None, [guess]), f"Stuck? Hints one by one, in a terminal: prefcourse hint {number}"]
    return Words(verdict.headline, False, claims, case, advice, printed)


def _unknown(case: dict, expected: dict, message: str) -> str:
    if "error" in case and undefined(expected.get("value", {})):
        return f"It raises {case['error'][0]} where nothing can be compared; the question names this case."
    if "error" in expected and "value" in case:
        return f"It answers where it should raise {expected['error'][0]}; the question names this case."
    if "error" in case and "error" in expected:
        return (
            f"It raises {case['error'][0]} where it should raise {expected['error'][0]}; the question names this case."
        )
    if "error" in case:
        return STOPPED + (", and look at the line that it names." if "(line " in message else ".")
    if undefined(expected.get("value", {})) and "number" in case["value"]:
        return f"It gives {in_words(case['value'])} where the answer is undefined, nan; the question names this case."
    return "" if "nothing" in case["value"] else UNKNOWN  # a missing `return` has its own note


def _case_in_words(verdict: Verdict, given: dict, expected: dict, call: Call, said: dict) -> list[tuple[str, str]]:
    case = verdict.exercise.cases[verdict.first]
    ours, right = _outcome(given, said, 4), _outcome(expected, {}, 4)
    if ours == right:  # the difference is in later digits
        ours, right = _outcome(given, said, 8), _outcome(expected, {}, 8)
    title = "First case that fails" + (" (numbers rounded)" if repr(rounded(tuple(call))) != repr(tuple(call)) else "")
    told = [(title, call_in_words(verdict.exercise.function, call)), ("yours", ours)]
    if not case.teach:
        return told
    told.append(("right", right))
    if "value" in given and "value" in expected:
        told.append(("note", difference(given["value"], expected["value"], Tolerance(*expected["tolerance"]))))
    return [(label, text) for label, text in told if text]


def _outcome(case: dict, said: dict, digits: int) -> str:
    if "value" in case:
        return f"gives {in_words(case['value'], digits)}"
    return f"raises {said.get('messages', {}).get(case['name'], case['error'][0])}"


def call_in_words(name: str, call: Call, most: int = 400) -> str:
    """The call as it could be pasted, with rounded numbers, cut where it is long."""
    parts = [_short(value, most) for value in call.args]
    parts += [f"{key}={_short(value, most)}" for key, value in call.settings.items()]
    return f"{name}({', '.join(parts)})"


def _short(value: object, most: int) -> str:
    text = " ".join(repr(rounded(value)).split())
    return text if len(text) <= most else f"{text[:most]} ..."


def _printed(said: dict, verdict: Verdict) -> str:
    """The beginning of what it printed on the first case that fails: the learner's own way to look inside."""
    text = said.get("stdout", "")
    if verdict.first is not None:
        text = said.get("printed", {}).get(verdict.exercise.cases[verdict.first].name, "")
    lines = [*text.splitlines(), *said.get("warnings", []), *said.get("stderr", "").splitlines()]
    return "\n".join(lines[:8] + ([f"... {len(lines) - 8} more lines"] if len(lines) > 8 else []))


# --- as text ------------------------------------------------------------------------------------------------


def as_text(words: Words) -> str:
    """Lines of at most 88 characters; each property with a sign and a word."""
    lines = _wrapped(words.headline)
    for holds, claim in words.claims:
        lines += _wrapped(claim, "  ✓ yes  " if holds else "  ✗ NO   ")
    for place, (label, code) in enumerate(words.case):
        lines += [f"{label}:", *_wrapped(code, "    ")] if place == 0 else _wrapped(code, f"  {label:<5}  ")
    for sentence in words.advice:
        lines += _wrapped(sentence)
    if words.printed:
        lines += [f"{PRINTED}:", *_code(words.printed, "    ")]
    return "\n".join(lines)


def _wrapped(text: str, first: str = "") -> list[str]:
    indent = " " * len(first)
    wrapped = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
    return wrapped or [first.rstrip()]


def _code(text: str, indent: str = "") -> list[str]:
    width = WIDTH - len(indent)
    return [f"{indent}{line[at : at + width]}" for line in text.splitlines() for at in range(0, len(line) or 1, width)]


# --- as HTML ------------------------------------------------------------------------------------------------

_BOX = (
    "border-left:4px solid {edge};padding:.4em .9em;max-width:48em;line-height:1.45;"
    "color:var(--jp-ui-font-color1,inherit);background:var(--jp-layout-color1,transparent);"
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:var(--jp-ui-font-size1,14px)"
)
_CODE = (
    "white-space:pre-wrap;margin:.2em 0 .5em;padding:.3em .6em;color:inherit;"
    "background:var(--jp-layout-color2,rgba(128,128,128,.12));font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px)"
)
_GOOD, _BAD = "var(--jp-success-color1,#2e7d32)", "var(--jp-warn-color1,#b26a00)"


def as_html(words: Words, reference: str = "") -> str:
    """In the colours of the reader's theme; what colour says, a sign and a word say too. Everything escaped.

    `reference`: source code to compare with, folded away.
    """
    sign, edge = ("✓", _GOOD) if words.passed else ("○", _BAD)
    claims = "".join(_claim(*claim) for claim in words.claims)
    parts = [f"<p style='margin:.2em 0'><strong>{sign} {escape(words.headline)}</strong></p>"]
    if claims:
        parts.append(f"<ul style='list-style:none;margin:.3em 0;padding-left:.4em'>{claims}</ul>")
    if words.case:
        (title, call), *rest = words.case
        width = max((len(label) for label, _ in rest), default=0)
        lines = "\n".join("\n".join(_wrapped(text, f"{label:<{width}}  ")) for label, text in rest)
        parts.append(
            f"<p style='margin:.5em 0 0'>{escape(title)}:</p>{_pre(chr(10).join(_wrapped(call)))}{_pre(lines)}"
        )
    parts += [f"<p style='margin:.3em 0'>{escape(sentence)}</p>" for sentence in words.advice]
    if words.printed:
        parts.append(_folded(PRINTED, words.printed))
    if reference:
        parts.append(_folded("The reference, for comparison", reference))
    return f'<div class="prefcourse-check" role="status" style="{_BOX.format(edge=edge)}">{"".join(parts)}</div>'


def _claim(holds: bool, claim: str) -> str:
    sign, word, colour = ("✓", "yes", _GOOD) if holds else ("✗", "NO", _BAD)
    mark = f"<span style='color:{colour};font-weight:600;display:inline-block;min-width:3.4em'>{sign} {word}</span>"
    return f"<li>{mark} {escape(claim)}</li>"


def _pre(text: str) -> str:
    return f"<pre style='{_CODE}'>{escape(text)}</pre>"


def _folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{_pre(text)}</details>"

"""The annotator's results as HTML, everything escaped. Knows numbers and words; knows nothing of widgets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from prefcourse.widgets.learn import Learned, verdict
from prefcourse.widgets.taste import Measure, Summary


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table whose first column names the row."""
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="pc-table"><table><caption style="text-align:left;padding:.2em 0">{escape(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def percent(measure: Measure) -> Sequence[str]:
    if math.isnan(measure.value):
        return measure.name, "-", "-", measure.says
    return measure.name, f"{measure.value:.0%}", f"{measure.low:.0%} to {measure.high:.0%}", measure.says


def logits(measure: Measure) -> Sequence[str]:
    if math.isnan(measure.value):
        return measure.name, "-", "-", measure.says
    return measure.name, f"{measure.value:+.1f}", f"{measure.low:+.1f} to {measure.high:+.1f}", measure.says


def summary_page(summary: Summary) -> str:
    """What the labels say about whoever gave them."""
    pace = f", {summary.seconds:.1f} s per choice (median)" if summary.seconds is not None else ""
    said = f"{summary.labels} labels, {summary.ties} of them ties{pace}."
    head = ("measure", "estimate", "95 % interval", "in words")
    return (
        f'<h3 class="pc-h">What your labels say</h3><p>{escape(said)}</p>'
        + table(head, map(percent, summary.shares), "How often you ...")
        + table(head, map(logits, summary.pulls), "What pulls you, each with the others held fixed (logits)")
    )


def learned_page(learned: Learned) -> str:
    """What a policy became that learned from these labels."""
    asked = len(next(iter(learned.seen.values())).prompts)
    names = {"before": "before", "DPO": "DPO on your labels", "PPO": "PPO on your labels"}
    numbers = [
        (names[name], f"{e.length:.1f}", f"{e.gold.mean:+.2f}", f"{e.flattery:.2f}", f"{max(0.0, e.kl.mean):.1f}")
        for name, e in learned.seen.items()
    ]
    answers = [(prompt, *said.values()) for prompt, said in learned.answers()]
    head = ("policy", "tokens", "gold", "flattery", "KL")
    return (
        f'<h3 class="pc-h">A model in your taste</h3><p>{escape(verdict(learned))}</p>'
        + table(
            head,
            numbers,
            f"Means over two answers to each of {asked} questions",
        )
        + table(("question", *names.values()), answers, "The same questions, before and after")
    )


def sentence(text: str) -> str:
    return f"<p>{escape(text)}</p>"

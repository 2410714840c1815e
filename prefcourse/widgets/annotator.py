"""Be the annotator: two answers, one choice, then a model that learned from the choices.

    w = Annotator()            # or Annotator(Lab(sft_model, seed, world))
    w.label("A")               # what key 1 does; "B", "tie", and w.undo()
    w.summary(), w.train()

The shell: it shows, listens and saves. What labels mean is the business of `labels`, `taste` and `learn`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import traitlets

from prefcourse.lab import Lab
from prefcourse.lab import lab as standard_lab
from prefcourse.widgets.bar import watched
from prefcourse.widgets.labels import Sitting, plan, usual_path
from prefcourse.widgets.learn import FEWEST, Learned, TooLittle, learn, verdict
from prefcourse.widgets.pages import learned_page, sentence, summary_page
from prefcourse.widgets.taste import Summary, summarise
from prefcourse.widgets.twin import HERE, Twinned, still


class Page:
    """HTML that also reads well as text, for the last line of a cell."""

    def __init__(self, html: str, text: str, value: object = None):
        self.html, self.text, self.value = html, text, value

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<div class="pc-page" style="max-width:760px">{self.html}</div>'


class Annotator(Twinned):
    """Twenty to sixty pairs, some of them twice with the sides turned. Labels are saved at once; the same pairs
    shown again go on where they were left. `path`: the file, False for none; by default in the learner's data."""

    _esm = (HERE / "common.js").read_text(encoding="utf-8") + (HERE / "annotator.js").read_text(encoding="utf-8")
    state = traitlets.Dict().tag(sync=True)

    def __init__(
        self, lab: Lab | None = None, *, count: int = 40, repeats: int = 8, seed: int = 0,
        path: str | Path | bool | None = None,
    ):  # fmt: skip
        super().__init__()
        self.lab, self.seed = lab or standard_lab(), seed
        answers = self.lab.answers(1 + count // len(self.lab.prompts), seed=seed)
        self.texts, self.finished = answers.texts[: count - repeats], answers.finished[: count - repeats]
        showings = plan(answers.texts, count=count, repeats=repeats, seed=seed)
        file = None if path is False else Path(path) if path else usual_path(showings)
        self.sitting = Sitting(showings, file)
        self.learned: Learned | None = None
        self.news, self.busy, self.share, self.task = self._welcome(), False, 0.0, None
        self.reporting = self.sitting.done
        self.on_msg(self._listen)
        self._tell()

    # -- what a learner or a test may call ----------------------------------------------------------------

    def label(self, label: str, seconds: float | None = None) -> None:
        """ "A": the left answer, "B": the right one, "tie". Saved before this returns."""
        self.sitting.label(label, seconds)
        self.reporting, self.learned, self.news = self.sitting.done, None, ""
        self._tell()

    def undo(self) -> None:
        """Take the last label back."""
        self.sitting.undo()
        self.reporting, self.learned, self.news = False, None, "The last label is taken back."
        self._tell()

    @property
    def current(self):
        """The pair on the screen: prompt, left, right; None when all are labelled."""
        return self.sitting.current

    def summary(self) -> Page:
        """Your agreement and your biases so far; `.value` has the numbers."""
        found = self._summary()
        lines = [f"{m.name}: {m.value:.2f} ({m.low:.2f} to {m.high:.2f}), {m.says}" for m in found.shares + found.pulls]
        return Page(summary_page(found), "\n".join([f"{found.labels} labels, {found.ties} ties", *lines]), found)

    def train(self) -> Page:
        """A reward model and two policies on your labels; `.value` is a `Learned`, or None with the reason in words."""
        steps = KeepingResult(learn(self.lab, self.sitting.pairs(), seed=self.seed))
        try:
            for _ in watched(steps, "training on your labels"):
                pass
        except TooLittle as error:
            return Page(sentence(str(error)), str(error))
        self.learned = steps.result
        self._tell()
        page = learned_page(self.learned)
        return Page(page, verdict(self.learned), self.learned)

    # -- the widget ---------------------------------------------------------------------------------------

    def plain(self) -> str:
        return f"Be the annotator: {len(self.sitting.showings)} pairs. Run this cell to label them."

    def twin(self) -> tuple[dict, dict]:
        said = len(self.sitting.choices)
        if not said:
            return still(sentence("No pair is labelled yet.")), {}
        learned = learned_page(self.learned) if self.learned else ""
        return still(f'<div style="max-width:760px">{summary_page(self._summary())}{learned}</div>'), {}

    def _welcome(self) -> str:
        said = len(self.sitting.choices)
        if said:
            return f"{said} labels from an earlier sitting are here. Undo takes them back one by one."
        return "Click a card, or click beside the cards and use the keys: 1 left, 2 right, 0 tie, U undo."

    def _summary(self) -> Summary:
        return summarise(self.sitting, self.lab.world, self.texts, self.finished)

    def _tell(self) -> None:
        """Everything that the page shows, in one message."""
        now, said, total = self.sitting.current, len(self.sitting.choices), len(self.sitting.showings)
        pace = self.sitting.median_seconds()
        report = ""
        if self.reporting:
            report = summary_page(self._summary()) + (learned_page(self.learned) if self.learned else "")
        self.state = {
            "number": said, "total": total, "prompt": now.prompt if now else "",
            "left": now.left if now else "", "right": now.right if now else "",
            "count": f"{said} of {total} labelled" + (f", {pace:.1f} s per choice" if pace else ""),
            "enough": said >= FEWEST, "reporting": self.reporting, "report": report,
            "busy": self.busy, "share": self.share, "news": self.news,
        }  # fmt: skip
        if self.reporting and not self.busy:
            self.renew_twin()

    def _listen(self, _, message: dict, buffers) -> None:
        """What was clicked or typed. A label for a pair that is no longer on the screen (a double click) is dropped."""
        wish = message.get("do")
        if wish == "label" and message["number"] == len(self.sitting.choices) and not self.sitting.done:
            self.label(message["label"], round(float(message["seconds"]), 2))
        elif wish == "undo":
            self.undo()
        elif wish in ("finish", "go on"):
            self.reporting = wish == "finish"
            self._tell()
        elif wish == "train" and not self.busy:
            self.task = asyncio.get_running_loop().create_task(self._train_meanwhile())
        elif wish == "stop":
            self.busy = False

    async def _train_meanwhile(self) -> None:
        """`train` without blocking the page: after every step whoever clicked is heard."""
        steps = KeepingResult(learn(self.lab, self.sitting.pairs(), seed=self.seed))
        self.busy, self.learned, self.news = True, None, ""
        try:
            for step in steps:
                self.share, self.news = step.share, f"{step.words} ..."
                self._tell()
                await asyncio.sleep(0.001)
                if not self.busy:
                    self.news = "Stopped. Your labels are safe; train again whenever you like."
                    return
            self.learned, self.news = steps.result, "Done: your models' answers are below the numbers."
        except TooLittle as error:
            self.news = str(error)
        except Exception as error:  # nobody else would see it: the task has no cell
            self.news = f"Training ended with {type(error).__name__}: {error}"
        finally:
            self.busy = False
            self._tell()


class KeepingResult:
    """A generator to loop over, and what it returned in the end."""

    def __init__(self, generator):
        self.generator, self.result = generator, None

    def __iter__(self):
        self.result = yield from self.generator

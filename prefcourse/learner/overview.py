"""The map: which chapters a folder has, how long each takes, what is solved. Knows notebooks as files, runs nothing.

Titles and times are read where they are written: in the first cell of a lesson, and in the headings of its exercises.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from prefcourse.learner import course, hooks, progress
from prefcourse.learner.files import write_whole

TITLE = re.compile(r"^# \d+ · (.+)$", re.MULTILINE)
TIME = re.compile(r"\*\*Time\.\*\* (\d+) minutes")
QUESTION = re.compile(r"## (\d+\.\d+) `(\w+)`\n\n\*(\w+), (\d+) minutes")
FILE, CELL = "README.ipynb", "chapters"  # where the map is: in notebooks/


class Question(NamedTuple):
    number: str
    function: str
    difficulty: str
    minutes: int


class Chapter(NamedTuple):
    number: int
    file: str  # its name in each of the three rooms
    title: str
    minutes: int  # to read; 0 where the lesson does not say
    questions: tuple[Question, ...]
    solved_notebook: bool


def title_and_time(first_cell: str) -> tuple[str, int]:
    title, minutes = TITLE.search(first_cell), TIME.search(first_cell)
    return title[1].strip() if title else "", int(minutes[1]) if minutes else 0


def chapters(folder: Path) -> list[Chapter]:
    """What lies in the folder, whatever the package knows."""
    found = []
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        if course.OURS.fullmatch(path.name):
            title, minutes = title_and_time("\n".join(texts(path)[:1]))
            title = title or path.stem[3:].replace("_", " ")
            questions = [match for text in texts(folder / "exercises" / path.name) if (match := QUESTION.match(text))]
            asked = tuple(Question(q[1], q[2], q[3], int(q[4])) for q in questions)
            solved = (folder / "solutions" / path.name).is_file()
            found.append(Chapter(int(path.name[:2]), path.name, title, minutes, asked, solved))
    return found


def texts(path: Path) -> list[str]:
    """The text cells of a notebook, if there is one. Not by nbformat, which would check every figure."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8-sig"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    except (OSError, ValueError, LookupError, TypeError):
        return []


class Map:
    """A table, shown as Markdown where that can be done. Whoever runs it in a test sees no progress."""

    def __init__(self, found: list[Chapter], solved: set[str], linked: bool):
        self.chapters, self.solved, self.linked = found, solved, linked

    def __repr__(self) -> str:
        lines = [f"{c.number:>2}  {c.title}: {time(c.minutes)} to read, {self.exercises(c)}" for c in self.chapters]
        return "\n".join(lines) or "no chapters here"

    def _repr_markdown_(self) -> str:
        rows = ["| chapter | read | practise | compare |", "|---|---|---|---|", *map(self.row, self.chapters)]
        return "\n".join(rows) + self.next_words()

    def row(self, c: Chapter) -> str:
        lesson = f"{self.link('lesson', 'notebooks', c)}{f', {time(c.minutes)}' if c.minutes else ''}"
        practice = self.exercises(c).split(", ")
        practice[0] = self.link(practice[0], "exercises", c)
        solutions = self.link("solutions", "solutions", c) if c.solved_notebook else ""
        return f"| **{c.number}** {c.title} | {lesson} | {', '.join(practice) if c.questions else ''} | {solutions} |"

    def exercises(self, c: Chapter) -> str:
        many, done = len(c.questions), sum(question.number in self.solved for question in c.questions)
        words = f"{many} exercise{'s' * (many != 1)}, {time(sum(question.minutes for question in c.questions))}"
        return words + (f", {'✓ all' if done == many else done} solved" if done else "")

    def next_words(self) -> str:
        """Nothing before the first is solved: then one begins with the first lesson."""
        left = [(c, q) for c in self.chapters for q in c.questions if q.number not in self.solved]
        if not self.solved or not self.chapters:
            return ""
        if not left:
            return "\n\n**All exercises are solved.**"
        chapter, question = left[0]
        link = self.link(f"{question.number} {question.function}", "exercises", chapter)
        return f"\n\n**Next:** {link}, {question.difficulty}, {question.minutes} minutes."

    def link(self, words: str, room: str, c: Chapter) -> str:
        place = c.file if room == "notebooks" else f"../{room}/{c.file}"  # seen from notebooks/README.ipynb
        return f"[{words}]({place})" if self.linked else words


def time(minutes: int) -> str:
    return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def course_map() -> Map:
    """For the folder in which it is called; without one (in Colab, say), the chapters of the package, without links."""
    try:
        return map_of(course.find(None))
    except course.CourseError:
        return Map(chapters(course.course_source()), set(), linked=False)


def map_of(folder: Path) -> Map:
    records = progress.load() if hooks.somebody_learns() else {}
    solved = {number for number, record in records.items() if "solved" in record}
    return Map(chapters(folder), solved, linked=True)


def is_of_today(path: Path) -> bool:
    """The committed map is what its cell would show now, to somebody who has solved nothing."""
    made = Map(chapters(path.parent.parent), set(), linked=True)._repr_markdown_()
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    shown = [output["data"]["text/markdown"] for cell in cells if cell["id"] == CELL for output in cell["outputs"]]
    return ["".join(text) for text in shown] == [made]


def refresh(folder: Path) -> None:
    """Today's map in the saved notebook, so that it is seen before anything is run."""
    path = folder / "notebooks" / FILE
    made = map_of(folder)
    data = {"text/markdown": made._repr_markdown_(), "text/plain": repr(made)}
    shown = {"output_type": "execute_result", "data": data, "metadata": {}}
    try:
        book = json.loads(path.read_text(encoding="utf-8-sig"))
        for cell in book["cells"]:
            if cell.get("id") == CELL:
                cell["outputs"] = [shown | {"execution_count": cell["execution_count"]}]
        write_whole(path, json.dumps(book, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    except (OSError, ValueError, LookupError, TypeError):
        return  # a learner made something else of it

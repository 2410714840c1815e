"""The syllabus, read off the notebooks: what each chapter says of itself, and its exercises. Knows words, no layout."""

from __future__ import annotations

import re
from collections.abc import Iterable

from nbformat import NotebookNode

from prefcourse.build.cells import role
from prefcourse.checks.exercise import Exercise, all_exercises

KEPT = ("Key insight", "After this chapter", "Time", "Before")  # the labels of a title's paragraphs that belong here
TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
OPENING = "What each chapter is about, the time it takes, and what you can do afterwards. {sum}."


def text(books: dict[str, NotebookNode]) -> str:
    """A page in Markdown, from `{"notebooks/02_x.ipynb": ...}`; exercises are listed where their notebook is there."""
    lessons = {name: book for name, book in books.items() if name.startswith("notebooks/")}
    practice = {name: book for name, book in books.items() if name.startswith("exercises/")}
    listed = {name: exercises_in(book) for name, book in practice.items()}
    every = [exercise for exercises in listed.values() for exercise in exercises]
    parts = ["# Syllabus", OPENING.format(sum=total(len(lessons), every))]
    for name, book in lessons.items():
        file = name.partition("/")[2]
        parts += [f"## [{title(book)}]({name})", *paragraphs(book), *questions(f"exercises/{file}", listed)]
    return "\n\n".join(parts) + "\n"


def total(chapters: int, exercises: list[Exercise]) -> str:
    counted = f"{chapters} chapter{'s' * (chapters != 1)}"
    return f"{counted}, {worth(exercises)}" if exercises else counted


def worth(exercises: list[Exercise]) -> str:
    minutes, points = sum(e.minutes for e in exercises), sum(e.points for e in exercises)
    return f"{len(exercises)} exercise{'s' * (len(exercises) != 1)} (about {minutes} minutes, {points} points)"


def title(book: NotebookNode) -> str:
    found = [match[1] for cell in markdown(book) if (match := TITLE.search(cell.source))]
    return found[0] if found else "A chapter without a title"


def paragraphs(book: NotebookNode) -> Iterable[str]:
    first = next(markdown(book), None)
    for paragraph in first.source.split("\n\n") if first else []:
        if paragraph.startswith(tuple(f"**{label}" for label in KEPT)):
            yield paragraph


def markdown(book: NotebookNode) -> Iterable[NotebookNode]:
    return (cell for cell in book.cells if cell.cell_type == "markdown")


def exercises_in(book: NotebookNode) -> list[Exercise]:
    numbers = {number for kind, number in map(role, book.cells) if kind == "answer"}
    return [exercise for exercise in all_exercises() if exercise.number in numbers]


def questions(name: str, listed: dict[str, list[Exercise]]) -> list[str]:
    """The chapter's exercises as a table, if their notebook is there."""
    exercises = listed.get(name)
    if not exercises:
        return []
    head = "| exercise | function | difficulty | time | points |\n|---|---|---|---|---|"
    rows = [f"| {e.number} | `{e.function}` | {e.difficulty} | {e.minutes} min | {e.points} |" for e in exercises]
    return [f"**[Exercises]({name}).** {worth(exercises)}.", "\n".join([head, *rows])]

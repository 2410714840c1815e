"""Notebooks from readable scripts: `python -m prefcourse.build [--check] [CHAPTER ...]`, in the course's folder.

A script in notebooks/source holds one chapter. `# %% name` begins a code cell, `# %% [markdown] name` a text cell,
written as comments; the name becomes the cell's id. What follows `# %% [exercises]` becomes exercises/ and solutions/:
of a function in a cell `answer-...` the exercise keeps signature and docstring. Knows cells, not what they compute.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

SOURCES = Path("notebooks/source")
EXERCISES = "\n# %% [exercises]\n"
CELL = re.compile(r"^# %%(?P<text> \[markdown\])? (?P<name>[a-z0-9-]+)\n", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def cells(script: str) -> list[NotebookNode]:
    """The cells of a script; what stands before the first is for the reader of the script only."""
    found = list(CELL.finditer(script))
    ends = [match.start() for match in found[1:]] + [len(script)]
    return [cell(match, script[match.end() : end]) for match, end in zip(found, ends, strict=True)]


def cell(header: re.Match, body: str) -> NotebookNode:
    if header["text"]:
        text = re.sub(r"^# ?", "", body.strip(), flags=re.MULTILINE)
        return v4.new_markdown_cell(text, id=header["name"])
    return v4.new_code_cell(body.strip(), id=header["name"])


def stub(source: str) -> str:
    """The functions of a cell with their bodies taken away: signature, docstring, NotWritten."""
    lines = source.splitlines()
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    for function in reversed(functions):  # from the end, so that line numbers stay true
        docstring_end = function.body[0].end_lineno
        lines[docstring_end : function.end_lineno] = [f'    raise selfcheck.NotWritten("{function.name}")']
    return "\n".join(lines)


def as_exercise(answer: NotebookNode) -> NotebookNode:
    is_answer = answer.cell_type == "code" and answer.id.startswith("answer-")
    return NotebookNode(answer, source=stub(answer.source)) if is_answer else answer


def notebook(parts: Iterable[NotebookNode]) -> NotebookNode:
    made = v4.new_notebook(cells=[*parts], metadata=METADATA)
    nbformat.validate(made)
    return made


def notebooks(script: Path) -> dict[Path, NotebookNode]:
    """Every notebook that comes from a script, not yet executed."""
    lesson, _, practice = script.read_text(encoding="utf-8").partition(EXERCISES)
    name = f"{script.stem}.ipynb"
    made = {Path("notebooks", name): notebook(cells(lesson))}
    if practice:
        solved = cells(practice)
        made[Path("exercises", name)] = notebook(map(as_exercise, solved))
        made[Path("solutions", name)] = notebook(solved)
    return made


def sources_of(book: NotebookNode, kinds: tuple[str, ...] = ("code", "markdown")) -> list[tuple]:
    return [(part.cell_type, part.id, part.source) for part in book.cells if part.cell_type in kinds]


def is_stale(path: Path, book: NotebookNode) -> bool:
    """The committed notebook says something else than its script, or was not executed to its end."""
    if not path.is_file():
        return True
    committed = nbformat.read(path, as_version=4)
    to_run = [part for part in committed.cells if part.cell_type == "code" and path.parent.name != "exercises"]
    return sources_of(committed) != sources_of(book) or any(not part.execution_count for part in to_run)


def execute(path: Path, book: NotebookNode) -> None:
    """Run every cell on one thread; where only text changed, the outputs of the last run are kept."""
    from nbclient import NotebookClient

    old = nbformat.read(path, as_version=4) if path.is_file() else notebook([])
    ran = [part for part in old.cells if part.cell_type == "code" and part.execution_count]
    code = [part for part in book.cells if part.cell_type == "code"]
    if sources_of(notebook(ran), ("code",)) == sources_of(book, ("code",)):
        for new, done in zip(code, ran, strict=True):
            new.outputs, new.execution_count = done.outputs, done.execution_count
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    client = NotebookClient(book, timeout=900, record_timing=False, store_widget_state=False, coalesce_streams=True)
    client.execute(cwd=str(path.parent))
    book.metadata = NotebookNode(METADATA)


def main(arguments: list[str] | None = None) -> int:
    """Write the notebooks, or with --check only name those that are stale (exit code 1)."""
    parser = argparse.ArgumentParser(prog="python -m prefcourse.build", description=main.__doc__)
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="beginning of a script's name; default all")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a notebook is stale")
    options = parser.parse_args(arguments)
    scripts = [s for s in sorted(SOURCES.glob("*.py")) if s.stem.startswith(tuple(options.chapters) or "")]
    made = {path: book for script in scripts for path, book in notebooks(script).items()}
    stale = [path for path, book in made.items() if is_stale(path, book)]
    print(*(f"stale: {path}" for path in stale) if stale else ["all notebooks are up to date"], sep="\n")
    for path in [] if options.check else stale:
        path.parent.mkdir(exist_ok=True)
        if path.parent.name != "exercises":
            execute(path, made[path])
        nbformat.write(made[path], path)
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())

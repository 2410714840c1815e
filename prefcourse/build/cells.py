"""What a cell of an exercise notebook is for, and what of an answer the learner starts from.

Knows ids, marker comments and sources. Runs nothing, and imports nothing that is taught.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # nbformat takes a second to import, and learners' commands only read here
    from nbformat import NotebookNode

NAMED = re.compile(r"(question|hints|answer|check)-(\d+)-(\d+)")
MARKER = re.compile(r"\s*# EXERCISE (\d+\.\d+)\b")
CALL = re.compile(r"""\s*check\(\s*["'](\d+\.\d+)["']""")


class SourceError(ValueError):
    """The author's source cannot become a notebook."""


def role(cell: NotebookNode) -> tuple[str, str]:
    """("answer", "2.1"), by the cell's id, or, where a tool dropped it, by what stands first in it; else ("given", "").

    A cell that says `# EXERCISE 2.1` is an answer whatever its id: the copy of a cell gets a new one.
    """
    if named := NAMED.fullmatch(cell.get("id", "")):
        return named[1], f"{named[2]}.{named[3]}"
    for kind, pattern in (("answer", MARKER), ("check", CALL)):
        if cell.cell_type == "code" and (found := pattern.match(cell.source)):
            return kind, found[1]
    return "given", ""


def code_cells(book: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def slug(kind: str, number: str) -> str:
    return f"{kind}-{number.replace('.', '-')}"


def marker(number: str, function: str) -> str:
    return f"# EXERCISE {number}: {function}\n"


def check_call(number: str, function: str) -> str:
    return f'check("{number}", {function})'


def lines_of(source: str, name: str, *, end_of_docstring: bool = False) -> list[str]:
    """The lines of a top-level function, its decorators included; SourceError where there is no such function."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name]
    if not functions:
        raise SourceError(f"there is no function {name} at the top level")
    function = functions[-1]
    if end_of_docstring and ast.get_docstring(function) is None:
        raise SourceError(f"{name} has no docstring; an exercise's docstring is its question")
    first = min(node.lineno for node in [function, *function.decorator_list])
    last = function.body[0] if end_of_docstring else function
    return source.splitlines()[first - 1 : last.end_lineno]


def stub(source: str, number: str, name: str) -> str:
    """Signature, docstring, NotWritten. All else in an answer's cell is part of the answer."""
    lines = lines_of(source, name, end_of_docstring=True)
    return marker(number, name) + "\n".join([*lines, f'    raise NotWritten("{name}")'])


def package_source(where: str) -> str:
    """The source of "prefcourse.agreement:cohen_kappa", read from its file: to import a loss would import torch."""
    module, _, name = where.partition(":")
    found = importlib.util.find_spec(module)
    if not found or not found.origin:
        raise SourceError(f'there is no module {module}; expected package="module:function"')
    return "\n".join(lines_of(Path(found.origin).read_text(encoding="utf-8"), name))


def digest(cells: list[dict]) -> str:
    """Changes with whatever a person can write into a notebook, and not by running it."""
    written = json.dumps([[cell["cell_type"], "".join(cell["source"])] for cell in cells])
    return hashlib.sha256(written.encode()).hexdigest()[:16]

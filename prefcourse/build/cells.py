"""What a cell of an exercise notebook is for, and what of an answer the learner starts from.

Knows ids, marker comments and sources. Runs nothing, and imports nothing that is taught.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import re
from collections.abc import Collection
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
    return _lines(source, function, function.body[0] if end_of_docstring else function)


def _lines(source: str, node: ast.stmt, last: ast.stmt | None = None) -> list[str]:
    first = min(part.lineno for part in [node, *getattr(node, "decorator_list", ())])
    return source.splitlines()[first - 1 : (last or node).end_lineno]


def stub(source: str, number: str, name: str) -> str:
    """Signature, docstring, NotWritten. All else in an answer's cell is part of the answer."""
    lines = lines_of(source, name, end_of_docstring=True)
    return marker(number, name) + "\n".join([*lines, f'    raise NotWritten("{name}")'])


def bound(source: str) -> dict[str, str]:
    """The names that a cell or a module binds at its top level, each with the lines that bind it."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = "\n".join(_lines(source, node))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            start = f"from {node.module} import " if isinstance(node, ast.ImportFrom) else "import "
            found |= {(name.asname or name.name).split(".")[0]: start + ast.unparse(name) for name in node.names}
        elif isinstance(node, ast.Assign):
            names = (name for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
            found |= {name.id: "\n".join(_lines(source, node)) for name in names}
    return found


def in_package(answer: str, function: str) -> str | None:
    """ "prefcourse.agreement:cohen_kappa", if that is what the answer imports, and all that it does."""
    match ast.parse(answer).body:
        case [ast.ImportFrom(module=module, names=[ast.alias(name=name, asname=None)])] if name == function:
            return f"{module}:{name}"
    return None


def package_source(where: str, given: Collection[str] = ()) -> str:
    """The source of "prefcourse.agreement:cohen_kappa", with what it needs of its module and is not `given` by cells
    before. Read from its file: to import a loss would import torch."""
    module, _, function = where.partition(":")
    found = importlib.util.find_spec(module)
    if not found or not found.origin:
        raise SourceError(f"there is no module {module}")
    there = bound(Path(found.origin).read_text(encoding="utf-8"))
    if function not in there:
        raise SourceError(f"there is no function {function} at the top level of {module}")
    needed = [function]
    for name in needed:  # grows while it is walked
        needed += [other for other in _names(there[name]) if other in there and other not in {*needed, *given}]
    if absent := sorted(set(_names(stub(there[function], "", function))) & set(needed[1:])):
        raise SourceError(f"the signature of {function} needs {', '.join(absent)}; import it in a cell before")
    lines = dict.fromkeys(there[name] for name in there if name in needed)
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    return "\n\n\n".join(filter(None, ["\n".join(imports), *(part for part in lines if part not in imports)]))


def _names(source: str) -> list[str]:
    return list(dict.fromkeys(node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)))


def digest(cells: list[dict]) -> str:
    """Changes with whatever a person can write into a notebook, and not by running it."""
    written = json.dumps([[cell["cell_type"], "".join(cell["source"])] for cell in cells])
    return hashlib.sha256(written.encode()).hexdigest()[:16]

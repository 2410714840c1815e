"""A copy of the package for kernels in which submissions run: without answers, without what grades, and with the
functions that solve an exercise emptied.
"""

from __future__ import annotations

import ast
import atexit
import compileall
import functools
import hashlib
import os
import shutil
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
LEFT_OUT = ("_course", "answers.py", "grading", "build", "learner", "bench", "__pycache__", "*.ipynb")


def stripped_package(emptied: Iterable[str], chapter: int, directory: Path | None = None) -> Path:
    """The folder to put on the path: it holds `prefcourse` and nothing else. Made once per directory and content.

    `emptied` names functions as "module:name". Exercises of other chapters are left out: they may need libraries that
    are slow to import. Without a directory the copy lives as long as this process.
    """
    return _stripped(tuple(sorted(set(emptied))), chapter, directory or _own_directory())


@functools.cache
def _own_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="prefcourse-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@functools.cache
def _stripped(emptied: tuple[str, ...], chapter: int, directory: Path) -> Path:
    where = directory / f"stripped-{hashlib.sha256(repr((emptied, chapter)).encode()).hexdigest()[:12]}"
    if not where.exists():
        making = Path(tempfile.mkdtemp(prefix="making-", dir=directory))
        _make(making, emptied, chapter)
        try:
            os.rename(making, where)
        except OSError:  # another process was faster
            shutil.rmtree(making)
    return where


def _make(where: Path, emptied: tuple[str, ...], chapter: int) -> None:
    package = where / "prefcourse"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for other in package.glob("exercises/chapter*"):
        if other.name != f"chapter{chapter:02}":
            shutil.rmtree(other)
    for module in {name.partition(":")[0] for name in emptied}:
        file = where.joinpath(*module.split(".")).with_suffix(".py")
        names = {function for m, _, function in (name.partition(":") for name in emptied) if m == module}
        file.write_text(without_bodies(file.read_text(), names))
    compileall.compile_dir(package, quiet=2)  # kernels see it read-only
    where.chmod(0o755)


def without_bodies(source: str, names: set[str]) -> str:
    """The module with these functions and methods ("Class.method") reduced to signature and docstring.

    ValueError if one is not there.
    """
    lines, found = source.splitlines(keepends=True), _functions(ast.parse(source), names)
    if names - found.keys():
        raise ValueError(f"the package has no function {', '.join(sorted(names - found.keys()))} to empty")
    for node in sorted(found.values(), key=lambda node: -node.lineno):
        refusal = f"the package's own {node.name} is not available while yours is graded"
        raising = f"from prefcourse.checks.exercise import NotAvailable\nraise NotAvailable({refusal!r})"
        node.body = [*(node.body[:1] if ast.get_docstring(node) is not None else []), *ast.parse(raising).body]
        node.decorator_list = []  # they stand in lines of their own, which stay
        lines[node.lineno - 1 : node.end_lineno] = [textwrap.indent(ast.unparse(node), " " * node.col_offset) + "\n"]
    return "".join(lines)


def _functions(module: ast.Module, names: set[str]) -> dict[str, ast.FunctionDef]:
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    scopes = [("", module.body), *((f"{node.name}.", node.body) for node in classes)]
    every = {f"{prefix}{n.name}": n for prefix, body in scopes for n in body if isinstance(n, ast.FunctionDef)}
    return {name: node for name, node in every.items() if name in names}

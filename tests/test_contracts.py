"""The rules of the house: who may import whom, how long a function may be, how long an import may take."""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "prefcourse"
FILES = sorted(PACKAGE.rglob("*.py"))
MAY_DRAW = {"cli", "pipeline", "report", "bench", "plots", "widgets"}
HEAVY = ("torch", "transformers", "trl", "datasets", "matplotlib", "IPython", "ipywidgets")


def room(file: Path) -> str:
    """The module or folder of prefcourse that a file is in: losses.py -> losses, train/online.py -> train."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_packages(file: Path) -> Iterator[str]:
    """Top-level packages a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def importers(*packages: str) -> set[Path]:
    return {file for file in FILES if set(packages) & set(imported_packages(file))}


def function_lengths() -> dict[str, int]:
    """Lines of each function, signature and docstring included."""
    return {
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}": node.end_lineno - node.lineno + 1
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def in_fresh_interpreter(code: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT, env=environment).strip()


def test_rooms_import_only_downwards():
    pytest.importorskip("importlinter")
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_only_the_top_rooms_draw():
    drawing = importers("matplotlib", "ipywidgets", "IPython")
    assert {room(file) for file in drawing} <= MAY_DRAW


def test_trl_is_imported_in_one_place():
    assert importers("trl") <= {PACKAGE / "bench" / "trl_side.py"}


@pytest.mark.parametrize("name", ["agreement", "annotators", "checks", "grading", "learner"])
def test_rooms_without_torch(name):
    """Neither named in the file, nor pulled in by what the file imports."""
    if not any(room(file) == name for file in FILES):
        pytest.skip(f"prefcourse.{name} is not there")
    assert name not in {room(file) for file in importers("torch", "transformers", "trl")}
    loaded = in_fresh_interpreter(f"import sys, prefcourse.{name}; print('torch' in sys.modules)")
    assert loaded == "False"


def test_functions_fit_on_a_screen():
    lengths = function_lengths()
    assert {name: lines for name, lines in lengths.items() if lines > 40} == {}
    assert statistics.median(lengths.values()) <= 12


def test_the_import_is_light():
    loaded = in_fresh_interpreter(f"import sys, prefcourse; print(*(set({HEAVY}) & set(sys.modules)))")
    assert loaded == ""


def test_the_import_is_fast():
    clock = "import time; t = time.perf_counter(); import prefcourse; print(time.perf_counter() - t)"
    assert min(float(in_fresh_interpreter(clock)) for _ in range(5)) <= 0.3

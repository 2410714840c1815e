"""One script per chapter gives lesson, exercises and solutions; what is committed comes from the scripts."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import prefcourse.exercises
from prefcourse.build import cells, command, execute, new
from prefcourse.build.script import METADATA, notebooks
from prefcourse.checks.exercise import exercises_of

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / command.SOURCES).glob("*.py"))
COMMITTED = sorted(path for room in ("notebooks", "exercises", "solutions") for path in (ROOT / room).glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.stem}")


def run(module, *words: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.main(parser.parse_args(words))


# --- what is committed --------------------------------------------------------------------------------------


def test_every_notebook_has_a_script_and_says_the_same(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert run(command, "--check") == 0, capsys.readouterr().out
    made = {ROOT / path for script in SCRIPTS for path in notebooks(script)}
    assert made == set(COMMITTED)


@EACH
def test_format(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert {**book.metadata, "prefcourse": None} == METADATA | {"prefcourse": None}  # no widgets, nobody's Python
    ids = [cell.id for cell in book.cells]
    assert len(set(ids)) == len(ids)
    lesson = path.parent.name == "notebooks"
    if lesson and path.stem[0].isdigit():
        assert 10 <= len(cells.code_cells(book)) <= 20
    longest = 14 if lesson else 18  # lines of code that a tired student reads at a glance
    for cell in cells.code_cells(book):  # an answer is as long as the package has it, with the helpers it needs there
        if cells.role(cell)[0] == "answer":
            functions = [node for node in ast.parse(cell.source).body if isinstance(node, ast.FunctionDef)]
            assert all(node.end_lineno - node.lineno < 40 for node in functions)
        else:
            assert cell.id == "setup" or sum(map(bool, map(str.strip, cell.source.splitlines()))) <= longest


@EACH
def test_outputs(path):
    """Executed in order, no errors, nothing on stderr; exercises are handed out without outputs."""
    code = cells.code_cells(nbformat.read(path, as_version=4))
    if path.parent.name == "exercises":
        assert all(cell.execution_count is None and not cell.outputs for cell in code)
        return
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    assert "widget-view" not in json.dumps(outputs), "a widget leaves its still copy behind, and nothing else"


@pytest.mark.parametrize("room", ["exercises", "solutions"])
def test_every_exercise_is_asked_answered_and_checked_once(room):
    for path in (ROOT / room).glob("*.ipynb"):
        roles = [cells.role(cell) for cell in nbformat.read(path, as_version=4).cells]
        numbers = [exercise.number for exercise in exercises_of(int(path.name[:2]))]
        for kind in ("question", "hints", "answer", "check"):
            assert [number for what, number in roles if what == kind] == numbers


def test_the_two_rooms_differ_in_answers_only():
    for path in (ROOT / "exercises").glob("*.ipynb"):
        asked, solved = (
            nbformat.read(ROOT / room / path.name, as_version=4).cells for room in ("exercises", "solutions")
        )
        for stub, whole in zip(asked, solved, strict=True):
            assert (stub.id, stub.metadata) == (whole.id, whole.metadata)
            assert (stub.source != whole.source) == (cells.role(stub)[0] == "answer")
            assert cells.role(stub)[0] != "answer" or "raise NotWritten(" in stub.source.splitlines()[-1]


# --- a chapter of our own -----------------------------------------------------------------------------------

SCRIPT = '''# for the reader of the script
# %% [markdown] hello
# # Hello
#
# Text.

# %% sum
1 + 1

# %% outside
import os

os.write(1, b"to the file descriptor")
print("to Jupyter")

# %% [exercises]
# %% setup
from prefcourse.checks import NotWritten, check

# %% [markdown] question-24-1
# **What is twice a number?**


# %% answer-24-1
import math


def helper(number):
    return math.fsum([number, number])


def double(number: float) -> float:
    """Twice the number.

    Of any number.
    """
    return helper(number)
'''
EXERCISES = """
from prefcourse.checks.exercise import Case, Exercise, fixed

CASES = (Case("two", "twice", fixed(2.0)), Case("zero", "zero", fixed(0.0)))
EXERCISES = [Exercise("24.1", "double", points=1, minutes=5, difficulty="easy", cases=CASES)]
"""
ANSWERS = """
from prefcourse.checks.exercise import Answers, Mutant

wrong = tuple(Mutant(f"plus-{n}", f"you add {n}", lambda number, n=n: 2 * number + n) for n in (1, 2, 3))
right = (lambda number: number + number, lambda number: number * 2.0)
ANSWERS = {"24.1": Answers(lambda number: 2 * number, wrong, right, ("a nudge", "a formula", "a place"))}
"""


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A course whose only chapter is 24, known to this process and to kernels that it starts."""
    package = tmp_path / "package" / "chapter24"
    for path, text in {
        tmp_path / command.SOURCES / "24_test.py": SCRIPT,
        package / "__init__.py": EXERCISES,
        package / "answers.py": ANSWERS,
        tmp_path
        / "sitecustomize.py": f"import prefcourse.exercises as e\ne.__path__.append({str(package.parent)!r})\n",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(prefcourse.exercises, "__path__", [*prefcourse.exercises.__path__, str(package.parent)])
    monkeypatch.chdir(tmp_path)
    forget_chapter()
    yield tmp_path
    forget_chapter()


@pytest.fixture
def no_kernel(monkeypatch):
    """Cells are not run, each check says that it is solved: for what has nothing to do with running."""
    shown = {"output_type": "execute_result", "metadata": {}, "data": {"text/plain": "1.1 f: solved"}}
    monkeypatch.setattr(execute, "run_by_nbval", lambda book, folder: [[shown] for _ in cells.code_cells(book)])


def forget_chapter() -> None:
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.startswith("prefcourse.exercises.chapter24")]:
        del sys.modules[name]


def rewrite(course: Path, old: str, new: str) -> None:
    script = course / command.SOURCES / "24_test.py"
    assert old in script.read_text()
    script.write_text(script.read_text().replace(old, new))


def read(course: Path, room: str, name: str = "24_test.ipynb") -> nbformat.NotebookNode:
    return nbformat.read(course / room / name, as_version=4)


def source_of(book: nbformat.NotebookNode, name: str) -> str:
    return next(cell.source for cell in book.cells if cell.id == name)


def test_one_script_gives_lesson_exercise_and_solution(chapter):
    lesson, asked, solved = notebooks(chapter / command.SOURCES / "24_test.py").values()
    assert [(cell.id, cell.source) for cell in lesson.cells][:2] == [("hello", "# Hello\n\nText."), ("sum", "1 + 1")]
    assert [cell.id for cell in asked.cells] == ["setup", "question-24-1", "hints-24-1", "answer-24-1", "check-24-1"]
    assert source_of(asked, "question-24-1").startswith("## 24.1 `double`\n\n*easy, 5 minutes, 1 point*\n\n**What is")
    assert "<summary>Hint 3</summary>\n\na place\n" in source_of(asked, "hints-24-1")
    assert source_of(asked, "check-24-1") == 'check("24.1", double)'
    assert source_of(asked, "answer-24-1") == (
        "# EXERCISE 24.1: double\ndef double(number: float) -> float:\n"
        '    """Twice the number.\n\n    Of any number.\n    """\n    raise NotWritten("double")'
    )
    assert "return helper(number)" in source_of(solved, "answer-24-1")


IN_THE_PACKAGE = (
    "import math\nimport os\n\nTWICE = 2\nNumber = float\n\n\n"
    + SCRIPT[SCRIPT.index("def helper") :].replace("[number, number]", "[number] * TWICE")
    + "\n\ndef treble(number):\n    return 3 * number\n"
)


def made_from_the_package(chapter, monkeypatch, package=IN_THE_PACKAGE, given=""):
    lesson = SCRIPT[: SCRIPT.index("# %% answer")].replace("# %% setup\n", f"# %% setup\n{given}")
    script = chapter / command.SOURCES / "24_test.py"
    script.write_text(lesson + "# %% answer-24-1\nfrom answer24 import double\n")
    (chapter / "answer24.py").write_text(package)
    monkeypatch.syspath_prepend(chapter)
    _, asked, solved = notebooks(script).values()
    assert "answer24" not in sys.modules, "read, not imported"
    return source_of(asked, "answer-24-1"), source_of(solved, "answer-24-1")


def test_where_the_package_is_the_solution_its_source_is_the_answer(chapter, monkeypatch):
    """With the helpers that it needs, in their order, and nothing else."""
    asked, solved = made_from_the_package(chapter, monkeypatch)
    assert asked.startswith("# EXERCISE 24.1: double\ndef double(")
    whole = IN_THE_PACKAGE.partition("\n\ndef treble")[0].replace("import os\n", "").replace("Number = float\n", "")
    assert solved.split() == ["#", "EXERCISE", "24.1:", "double", *whole.split()]
    exec(solved, names := {})
    assert names["double"](3.0) == 6.0


def test_what_cells_before_have_imported_does_not_come_along(chapter, monkeypatch):
    _, solved = made_from_the_package(chapter, monkeypatch, given="from answer24 import helper\n")
    assert solved.startswith("# EXERCISE 24.1: double\ndef double(")


def test_what_a_signature_needs_must_have_been_imported(chapter, monkeypatch):
    with pytest.raises(cells.SourceError, match="signature of double needs Number; import it in a cell before"):
        made_from_the_package(chapter, monkeypatch, IN_THE_PACKAGE.replace("-> float", "-> Number"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("# %% sum\n", "# %%\n", "the cell after `hello` is named ''"),
        ("# %% outside\n", "# %% sum\n", "two cells are named sum"),
        ("# %% [markdown] question-24-1\n", "# %% [markdown] ask\n", "exercise 24.1 has no cell `question-24-1`"),
        ("def double(", "def triple(", "there is no function double"),
        ('    """Twice the number.\n\n    Of any number.\n    """\n', "", "double has no docstring"),
        ("# %% setup\n", "# %% check-24-1\n", "`check-24-1` is made by the build"),
    ],
)
def test_a_slip_of_the_author_is_named(chapter, capsys, old, new, words):
    rewrite(chapter, old, new)
    assert run(command) == 1
    assert words in capsys.readouterr().err


def test_a_solution_that_does_not_pass_is_refused(chapter, capsys):
    rewrite(chapter, "[number, number]", "[number, number, 1]")
    assert run(command, "24") == 1
    assert "does not pass: check-24-1" in capsys.readouterr().err
    assert not (chapter / "solutions" / "24_test.ipynb").exists()


def test_a_cell_that_fails_is_shown(chapter, capsys):
    rewrite(chapter, "1 + 1", "1 / 0")
    assert run(command) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_rebuild_is_identical_and_nbval_agrees(chapter):
    """Also with what is written to file descriptors, which Jupyter's own run would have kept."""
    assert run(command, "--check") == 1
    assert run(command) == 0 and run(command, "--check") == 0
    rooms = [path for room in ("notebooks", "exercises", "solutions") for path in (chapter / room).glob("*.ipynb")]
    first = [path.read_bytes() for path in rooms]
    for path in rooms:
        path.unlink()
    assert run(command) == 0
    assert [path.read_bytes() for path in rooms] == first
    assert {path.name for path in (chapter / "notebooks").iterdir()} == {"source", "24_test.ipynb"}, "nothing left over"
    nbval = ["-c", os.devnull, "--rootdir", ".", "--nbval", "--nbval-current-env", "-q"]
    tested = subprocess.run([sys.executable, "-m", "pytest", *nbval, "notebooks", "solutions"], capture_output=True)
    assert tested.returncode == 0, tested.stdout.decode()


YESTERDAY = "the run of yesterday"


def mark(path: Path) -> None:
    """So that one sees whether a notebook is run again."""
    book = nbformat.read(path, as_version=4)
    next(cell for cell in book.cells if cell.get("outputs")).outputs[0].data["text/plain"] = YESTERDAY
    nbformat.write(book, path)


def test_stale_after_a_change_and_outputs_kept_where_only_text_changed(chapter, no_kernel, capsys):
    assert run(command) == 0
    mark(chapter / "notebooks" / "24_test.ipynb")
    rewrite(chapter, "Text.", "Other text.")
    assert run(command, "--check") == 1
    assert "stale: notebooks/24_test.ipynb\n" in capsys.readouterr().out
    assert run(command) == 0
    assert read(chapter, "notebooks").cells[1].outputs[0].data["text/plain"] == YESTERDAY
    rewrite(chapter, "1 + 1", "2 + 2")
    assert run(command) == 0
    assert read(chapter, "notebooks").cells[1].outputs[0].data["text/plain"] == "1.1 f: solved", "run again"


def test_other_cases_run_the_solutions_again_and_nothing_else(chapter, no_kernel, capsys):
    assert run(command) == 0
    cases = chapter / "package" / "chapter24" / "__init__.py"
    cases.write_text(EXERCISES.replace("fixed(2.0)", "fixed(3.0)"))
    forget_chapter()
    mark(chapter / "solutions" / "24_test.ipynb")
    capsys.readouterr()
    assert run(command) == 0
    assert capsys.readouterr().out == "making solutions/24_test.ipynb\n"
    assert YESTERDAY not in (chapter / "solutions" / "24_test.ipynb").read_text()


def test_a_room_is_run_again_on_request(chapter, no_kernel):
    assert run(command) == 0
    for room in ("notebooks", "solutions"):
        mark(chapter / room / "24_test.ipynb")
    assert run(command, "--execute", "solutions") == 0
    assert YESTERDAY not in (chapter / "solutions" / "24_test.ipynb").read_text()
    assert YESTERDAY in (chapter / "notebooks" / "24_test.ipynb").read_text()


def test_what_a_learner_wrote_is_never_overwritten(chapter, no_kernel, capsys):
    assert run(command) == 0
    for name, note in {"24_test.ipynb": "mine", "24_test.new.ipynb": "mine, too"}.items():
        path = chapter / "exercises" / name
        book = read(chapter, "exercises", name)
        book.cells[1].source += note
        nbformat.write(book, path)
        theirs = path.read_bytes()
        rewrite(chapter, "**", "**Really! ")
        assert run(command) == 0
        assert path.read_bytes() == theirs
        assert "holds somebody's work and stays" in capsys.readouterr().out
    assert "Really! " in source_of(read(chapter, "exercises", "24_test.new-2.ipynb"), "question-24-1")


def test_running_an_exercise_notebook_is_no_writing(chapter, no_kernel):
    assert run(command) == 0
    book = read(chapter, "exercises")
    book.cells[0].execution_count = 3
    nbformat.write(book, chapter / "exercises" / "24_test.ipynb")
    assert run(command) == 0
    assert [path.name for path in (chapter / "exercises").iterdir()] == ["24_test.ipynb"]


# --- a new exercise -----------------------------------------------------------------------------------------


def test_a_new_exercise_is_laid_runs_and_is_refused_until_filled_in(chapter, capsys):
    assert run(new, "exercise", "24.2", "treble") == 0
    forget_chapter()
    assert [exercise.function for exercise in exercises_of(24)] == ["double", "treble"]
    ruff = [sys.executable, "-m", "ruff", "format", "--check", "--config", str(ROOT / "pyproject.toml")]
    assert subprocess.run([*ruff, str(chapter / command.SOURCES)]).returncode == 0
    assert run(command) == 1
    words = "exercise 24.2 is not finished: no cases, 0 mutants of at least 3, 0 alternatives of at least 2, 0 hints"
    assert words in capsys.readouterr().err
    fill_in(chapter)
    assert run(command) == 1
    words = capsys.readouterr().err
    assert 'exercise 24.2 is not finished: its script still says "What is the quantity that `treble` returns?"' in words
    for sentence in new.PLACEHOLDERS:
        if (said := sentence.format(function="treble")) in words:
            rewrite(chapter, said, "Three times as much.")
    assert run(command) == 1
    assert "does not pass: check-24-2" in capsys.readouterr().err
    rewrite(chapter, 'raise NotImplementedError("24.2: the solution is not written yet")', "return 3 * numbers")
    assert run(command) == 0
    assert source_of(read(chapter, "solutions"), "answer-24-2").endswith("return 3 * numbers")


def fill_in(chapter: Path) -> None:
    package = chapter / "package" / "chapter24"
    for name, changes in {
        "__init__.py": {"cases=(),": 'cases=(Case("one", "three times", fixed(1.0)),),'},
        "answers.py": {
            'raise NotImplementedError("24.2: the oracle is not written yet")': "return 3 * numbers",
            "mutants=(),": "mutants=wrong,",
            "alternatives=(),": "alternatives=right,",
            "hints=(),": "hints=('one', 'two', 'three'),",
        },
    }.items():
        text = (package / name).read_text()
        for old, filled in changes.items():
            assert text.count(old) == 1
            text = text.replace(old, filled)
        (package / name).write_text(text)
    forget_chapter()


def test_the_first_exercise_of_a_chapter(chapter):
    (chapter / command.SOURCES / "23_first.py").write_text("# %% [markdown] hello\n# Hello\n")
    assert run(new, "exercise", "23.1", "sum_up") == 0
    package = chapter / "package" / "chapter23"
    for file in (*package.glob("*.py"), chapter / command.SOURCES / "23_first.py"):
        compile(file.read_text(), file.name, "exec")
    ruff = [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), str(package)]
    assert subprocess.run(ruff).returncode == 0
    assert [exercise.number for exercise in exercises_of(23)] == ["23.1"]
    assert "# %% [exercises]\n" in (chapter / command.SOURCES / "23_first.py").read_text()


@pytest.mark.parametrize(
    ("number", "function", "words"),
    [
        ("24.1", "other", "24.1 double exists"),
        ("24.7", "double", "24.1 double exists"),
        ("24", "f", "expected a number and a name"),
        ("22.1", "f", "no lesson"),
    ],
)
def test_new_refuses(chapter, capsys, number, function, words):
    before = (chapter / command.SOURCES / "24_test.py").read_text()
    assert run(new, "exercise", number, function) == 2
    assert words in capsys.readouterr().err
    assert (chapter / command.SOURCES / "24_test.py").read_text() == before

"""The committed notebooks come from their scripts, were executed to the end, and carry no traces of a session."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from prefcourse import build

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / build.SOURCES).glob("*.py"))
COMMITTED = sorted(path for room in ("notebooks", "exercises", "solutions") for path in (ROOT / room).glob("*.ipynb"))


@pytest.fixture
def course(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_every_notebook_has_a_script_and_says_the_same(course, capsys):
    assert build.main(["--check"]) == 0, capsys.readouterr().out
    made = {ROOT / path for script in SCRIPTS for path in build.notebooks(script)}
    assert made == set(COMMITTED)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_format(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert book.metadata == build.METADATA  # no widgets, no version of somebody's Python
    ids = [cell.id for cell in book.cells]
    assert len(set(ids)) == len(ids)
    assert all(len(cell.source.splitlines()) <= 16 for cell in book.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_outputs(path):
    """Executed in order, no errors, nothing on stderr; exercises are handed out without outputs."""
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    if path.parent.name == "exercises":
        assert all(cell.execution_count is None and not cell.outputs for cell in code)
        return
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert all(output.output_type != "error" and output.get("name") != "stderr" for output in outputs)
    assert all(cell.outputs for cell in code if cell.id.startswith("check-"))
    assert "widget" not in json.dumps(outputs)


SCRIPT = '''# for the reader of the script
# %% [markdown] hello
# # Hello
#
# Text.

# %% sum
1 + 1
# %% [exercises]
# %% setup
from prefcourse import selfcheck


# %% answer-double
def double(number: float) -> float:
    """Twice the number.

    Of any number.
    """
    result = 2 * number
    return result


# %% use
print("ready")
'''


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / build.SOURCES).mkdir(parents=True)
    script = tmp_path / build.SOURCES / "99_test.py"
    script.write_text(SCRIPT)
    return script


def test_one_script_gives_lesson_exercise_and_solution(chapter):
    lesson, exercise, solution = build.notebooks(chapter).values()
    assert [(cell.id, cell.source) for cell in lesson.cells] == [("hello", "# Hello\n\nText."), ("sum", "1 + 1")]
    stub, whole = exercise.cells[1].source, solution.cells[1].source
    assert stub.splitlines()[:5] == whole.splitlines()[:5]
    assert stub.splitlines()[5:] == ['    raise selfcheck.NotWritten("double")']
    assert "return result" in whole


def test_stale_until_built_and_again_after_a_change(chapter, capsys):
    assert build.main(["--check"]) == 1
    assert build.main([]) == 0 and build.main(["--check"]) == 0
    lesson = Path("notebooks/99_test.ipynb")
    assert nbformat.read(lesson, as_version=4).cells[1].outputs[0].data["text/plain"] == "2"
    chapter.write_text(SCRIPT.replace("Text.", "Other text."))
    assert build.main(["--check"]) == 1
    assert "stale: notebooks/99_test.ipynb\n" in capsys.readouterr().out
    assert build.main([]) == 0 and build.main(["--check"]) == 0
    assert nbformat.read(lesson, as_version=4).cells[1].outputs, "a change of text alone keeps the outputs"

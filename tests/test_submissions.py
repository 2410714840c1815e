"""What is handed in is found, whatever it is called; what cannot be read is there too, with a reason; nothing hangs."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import zipfile
from pathlib import Path

import pytest

from prefcourse.grading import submissions
from prefcourse.grading.submissions import chapter_of, find, inspect, printable, read, settle

CHAPTERS = ["02_overview", "03_reward_models"]


def notebook(exercise: str = "2.1", text: str = "") -> bytes:
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": f"# EXERCISE {exercise}: f\n{text}"}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def lay(folder: Path, *names: str, content: bytes | None = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(notebook() if content is None else content)
    return folder


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def students(source: Path) -> list[str]:
    return sorted(s.student for s in find(source, CHAPTERS))


def problem(source: Path) -> str:
    (only,) = find(source, CHAPTERS)
    return inspect(only, CHAPTERS).problem


# --- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "student"),
    [
        ("doejohn_12345_67890_02_overview.ipynb", "doejohn (12345)"),
        ("doejohn_LATE_12345_67890_02_overview-1.ipynb", "doejohn (12345)"),
        ("John Doe_12345_assignsubmission_file_/02_overview.ipynb", "John Doe (12345)"),
        ("John Doe_12345_assignsubmission_file/02_overview.ipynb", "John Doe (12345)"),
        ("John Doe_12345_assignsubmission_file_02_overview.ipynb", "John Doe (12345)"),
        ("Zoë Ångström/02_overview.ipynb", "Zoë Ångström"),
        ("jane.ipynb", "jane"),
        ("02_overview_jane.ipynb", "jane"),
        ("02_overview (1).ipynb", "02_overview"),
        ("submission_987/exercises/02_overview.ipynb", "submission_987"),
        ("jane.ipynb.txt", "jane"),
    ],
)
def test_the_learner_is_in_the_name(tmp_path, name, student):
    lay(tmp_path, name, "kim/03_reward_models.ipynb", "lee/02_overview.ipynb")
    assert student in students(tmp_path)


@pytest.mark.parametrize("top", ["", "hw2/", "export/hw2/"])
@pytest.mark.parametrize("names", [("jane.ipynb", "kim.ipynb"), ("jane/02_overview.ipynb", "kim/02_overview.ipynb")])
def test_folders_around_all_are_no_learners(tmp_path, top, names):
    assert students(lay(tmp_path, *(top + name for name in names))) == ["jane", "kim"]
    archive = tmp_path / "all.zip"
    archive.write_bytes(zipped({top + name: notebook() for name in names}))
    assert students(archive) == ["jane", "kim"]


def test_one_learner_alone_is_the_folder(tmp_path):
    assert students(lay(tmp_path, "jane/02_overview.ipynb", "jane/03_reward_models.ipynb")) == ["jane", "jane"]


def test_a_zip_in_the_folder_is_one_learners(tmp_path):
    lay(tmp_path, "jane.zip", content=zipped({"work/02_overview.ipynb": notebook()}))
    lay(tmp_path, "doejohn_1_2_work.zip", content=zipped({"02_overview.ipynb": notebook()}))
    found = find(tmp_path, CHAPTERS)
    assert [s.student for s in found] == ["doejohn (1)", "jane"]
    assert all(read(s) == notebook() for s in found)


def test_what_no_learner_wrote_is_left_out(tmp_path):
    lay(tmp_path, "jane/02_overview.ipynb", "jane/.ipynb_checkpoints/02_overview-checkpoint.ipynb")
    lay(tmp_path, "__MACOSX/jane/._02_overview.ipynb", "marks.csv", ".git/x.ipynb", "kim/02_overview.ipynb")
    assert students(tmp_path) == ["jane", "kim"]


def test_of_a_copy_of_the_course_only_the_exercises_count(tmp_path):
    lay(tmp_path, *(f"jane/{room}/02_overview.ipynb" for room in ("notebooks", "exercises", "solutions")))
    assert [s.name for s in find(tmp_path, CHAPTERS)] == ["jane/exercises/02_overview.ipynb"]


@pytest.mark.parametrize(
    "name",
    ["=cmd()|calc", "<script>alert(1)</script", "a\x1b[31mred", "a\nb", "\u202egnp.exe", "x" * 200, "-rf", "' OR 1"],
)
def test_hostile_names_are_data(tmp_path, name):
    name = name.replace("/", "_")
    lay(tmp_path, f"{name}.ipynb", "kim.ipynb")
    found = find(tmp_path)
    assert len(found) == 2 and all(read(s) == notebook() for s in found)
    assert all(not set("\x1b\n\u202e") & set(s.name + s.student) and len(s.student) <= 80 for s in found)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_name_that_is_no_utf8(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"jos\xe9.ipynb"), "wb") as file:
        file.write(notebook())
    (found,) = find(tmp_path)
    assert found.student == "jos\\udce9" and read(found) == notebook()
    found.name.encode()  # a surrogate would raise


def test_long_names_that_differ_at_their_end_stay_different():
    assert printable("x" * 300 + "a") != printable("x" * 300 + "b")


# --- what is not a readable notebook ------------------------------------------------------------------------


def test_links_are_refused_wherever_they_point(tmp_path):
    secret = lay(tmp_path / "elsewhere", "secret.ipynb") / "secret.ipynb"
    batch = lay(tmp_path / "batch", "kim.ipynb")
    (batch / "jane.ipynb").symlink_to(secret)
    (batch / "lee").symlink_to(secret.parent)
    (batch / "mia.zip").symlink_to(secret)
    problems = {s.student: s.problem for s in find(batch)}
    assert problems.pop("kim") == ""
    assert set(problems) == {"jane", "lee", "mia"} and all("link" in text for text in problems.values())


def test_a_link_that_appears_after_the_look_is_refused(tmp_path):
    (found,) = find(lay(tmp_path / "batch", "jane.ipynb"))
    lay(tmp_path, "secret.ipynb")
    found.place.unlink()
    found.place.symlink_to(tmp_path / "secret.ipynb")
    assert "link" in inspect(found, CHAPTERS).problem


@pytest.mark.timeout(20)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_sockets_do_not_hang(tmp_path):
    os.mkfifo(tmp_path / "jane.ipynb")
    assert "pipe" in problem(tmp_path)
    (found,) = find(tmp_path)
    with pytest.raises(submissions.Unreadable, match="pipe"):
        submissions._read_file(found.place)
    (tmp_path / "jane.ipynb").unlink()
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(tmp_path / "kim.ipynb"))
        assert "socket" in problem(tmp_path)


def test_large_files_are_refused_unread(tmp_path):
    with open(tmp_path / "jane.ipynb", "wb") as file:
        file.truncate(200_000_000)
    assert "too large (200.0 MB" in problem(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_forbidden_files_are_found(tmp_path):
    lay(tmp_path, "jane.ipynb")
    (tmp_path / "jane.ipynb").chmod(0)
    assert "cannot be read" in problem(tmp_path)


def test_a_learner_without_a_notebook_is_in_the_list(tmp_path):
    lay(tmp_path, "jane/essay.docx", "kim.ipynb", "doejohn_1_2_essay.pdf")
    (tmp_path / "lee").mkdir()
    problems = {s.student: s.problem for s in find(tmp_path)}
    assert problems == {
        "jane": "no notebook (.ipynb) in it, but essay.docx",
        "kim": "",
        "doejohn (1)": "no notebook (.ipynb) in it, but doejohn_1_2_essay.pdf",
        "lee": "an empty folder",
    }


def test_hundreds_of_notebooks_of_one_learner_are_refused(tmp_path):
    lay(tmp_path, "kim/02_overview.ipynb", *(f"jane/{n}.ipynb" for n in range(60)))
    assert {s.student: s.problem[:23] for s in find(tmp_path)} == {"kim": "", "jane": "60 notebooks by one lea"}


def test_deep_folders_are_refused(tmp_path):
    lay(tmp_path, "jane/" + "a/" * 60 + "02.ipynb")
    assert "deeper than 30" in problem(tmp_path)


def test_zip_bombs_are_refused(tmp_path):
    lay(tmp_path, "jane.zip", content=zipped({"02_overview.ipynb": b" " * 60_000_000}))
    assert "too large (60.0 MB" in problem(tmp_path)


def test_a_zip_that_lies_about_its_size_gives_no_more_than_the_limit(tmp_path, monkeypatch):
    content = zipped({"02_overview.ipynb": b" " * 100_000})
    at = content.index(b"PK\x01\x02")
    lay(tmp_path, "jane.zip", content=content[: at + 24] + struct.pack("<I", 10) + content[at + 28 :])
    monkeypatch.setattr(submissions, "MAX_BYTES", 1000)
    assert problem(tmp_path)


@pytest.mark.parametrize("name", ["../../evil.ipynb", "/etc/evil.ipynb", "C:/evil.ipynb", "..\\evil.ipynb"])
def test_zip_names_that_point_outside_are_refused(tmp_path, name):
    before = set(tmp_path.rglob("*"))
    lay(tmp_path / "batch", "jane.zip", content=zipped({name: notebook()}))
    assert problem(tmp_path / "batch") == "its name points out of the zip"
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "batch", tmp_path / "batch" / "jane.zip"}


def test_links_in_zips_are_refused(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("02_overview.ipynb")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    lay(tmp_path, "jane.zip", content=buffer.getvalue())
    assert "link" in problem(tmp_path)


def test_encrypted_nested_and_broken_zips_say_why(tmp_path):
    content = bytearray(zipped({"02_overview.ipynb": notebook()}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    lay(tmp_path, "locked.zip", content=bytes(content))
    lay(tmp_path, "nested.zip", content=zipped({"inner.zip": zipped({"02_overview.ipynb": notebook()})}))
    lay(tmp_path, "broken.zip", content=b"PK\x03\x04 no zip")
    lay(tmp_path, "empty.zip", content=b"")
    damaged = bytearray(zipped({"02_overview.ipynb": notebook()}, zipfile.ZIP_STORED))
    damaged[60] ^= 255
    lay(tmp_path, "damaged.zip", content=bytes(damaged))
    problems = {s.student: inspect(s, CHAPTERS).problem for s in find(tmp_path)}
    words = {"locked": "password", "nested": "zip inside a zip", "broken": "not a zip", "empty": "not a zip"}
    assert {who: text in problems[who] for who, text in (words | {"damaged": "damaged"}).items()} == dict.fromkeys(
        [*words, "damaged"], True
    )


def test_a_batch_that_is_no_zip_or_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError):
        find(tmp_path / "nothing")
    with pytest.raises(submissions.Unreadable):
        find(lay(tmp_path, "x.zip", content=b"no zip") / "x.zip")


# --- chapters, and several of one learner -------------------------------------------------------------------


def test_the_chapter_is_known_by_what_is_inside_before_the_name(tmp_path):
    (found,) = find(lay(tmp_path, "02_overview.ipynb"), CHAPTERS)
    assert chapter_of(found, notebook("3.4"), CHAPTERS) == "03_reward_models"
    assert chapter_of(found, b"{}", CHAPTERS) == "02_overview"
    (found,) = find(lay(tmp_path / "other", "jane.ipynb"), CHAPTERS)
    assert chapter_of(found, b'{"prefcourse": {"exercise": "3.1"}}', CHAPTERS) == "03_reward_models"
    assert inspect(found, ["09_other"]).problem.startswith("no exercise of this course in it")


def settled(folder: Path) -> list[submissions.Submission]:
    return settle([inspect(s, CHAPTERS) for s in find(folder, CHAPTERS)])


def test_of_canvas_uploads_the_latest_is_graded_and_names_the_others(tmp_path):
    names = ["doe_7_100_work.ipynb", "doe_7_205_work-1.ipynb", "doe_7_30_work.ipynb", "doe_8_20_work.ipynb"]
    found = settled(lay(tmp_path, *names))
    assert [s.name for s in found] == ["doe_7_205_work-1.ipynb", "doe_8_20_work.ipynb"]
    assert "not graded: doe_7_30_work.ipynb, doe_7_100_work.ipynb" in found[0].notes[0] and not found[1].notes


def test_without_a_clock_all_are_graded_and_say_so(tmp_path):
    found = settled(lay(tmp_path, "jane/02_overview.ipynb", "jane/final.ipynb", "kim/02_overview.ipynb"))
    assert [bool(s.notes) for s in found] == [True, True, False]


def test_two_chapters_are_no_double(tmp_path):
    lay(tmp_path, "doe_7_100_a.ipynb", "doe_7_101_b.ipynb")
    (tmp_path / "doe_7_101_b.ipynb").write_bytes(notebook("3.1"))
    assert [s.chapter for s in settled(tmp_path)] == CHAPTERS

"""`prefcourse grade`, `merge` and the doctor of sandboxes: what they print, what they leave, and their exit codes."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_batch import RECORD, STEM, course, hand_in

from prefcourse.grading import batch, command, doctor, merge
from prefcourse.grading.result import State

SETTINGS = {"package": "deny", "seconds": 300.0, "memory_mb": 2048, "docker_image": ""}


class CourseDefect(RuntimeError):
    pass


@pytest.fixture
def grade(tmp_path, monkeypatch):
    """The command, with a course that grades by words and a sandbox that is always there."""
    room = tmp_path / "course" / "solutions"
    room.mkdir(parents=True)
    (room / f"{STEM}.ipynb").write_text("{}")
    monkeypatch.chdir(room.parent)
    monkeypatch.setattr(command, "settings_of", settings)
    monkeypatch.setattr(command, "course_of", lambda solutions, settings: replace(course(tmp_path), seed="hashed"))
    return lambda *words: run(command, str(tmp_path / "submissions"), *words)


def settings(args, secret: str) -> SimpleNamespace:
    asked = {"seconds": args.timeout or 300.0, "package": args.package_answers}
    level = "bwrap" if args.sandbox == "auto" else args.sandbox
    return SimpleNamespace(**SETTINGS | asked, sandbox=level, seed=secret)


def run(module, *words: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.main(parser.parse_args(words))


def results(out: Path) -> list[dict]:
    return json.loads((out / "results.json").read_text())["results"]


def test_zero_whatever_the_marks(grade, tmp_path, capsys):
    hand_in(tmp_path, ann="right", bob="wrong")
    out = tmp_path / "out"
    assert grade("-o", str(out), "--jobs", "1") == 0
    told = capsys.readouterr()
    assert "2 submissions: 2 graded" in told.out and "mean: 1 of 2 points (50 %)" in told.out
    assert f"look at {out / 'overview.html'}" in told.out and "no --seed-file" in told.err
    assert {path.name for path in out.iterdir()} == {
        "batch.json", "graded", "results.csv", "results.json", "junit.xml", "feedback", "overview.html"}  # fmt: skip


def test_one_below_the_floor(grade, tmp_path):
    hand_in(tmp_path, ann="right", bob="wrong")
    assert grade("-o", str(tmp_path / "a"), "--fail-under", "0") == 0
    assert grade("-o", str(tmp_path / "b"), "--fail-under", "60") == 1


def test_two_for_what_cannot_be_used(grade, tmp_path, capsys):
    (tmp_path / "submissions").mkdir()
    assert grade("-o", str(tmp_path / "out")) == 2 and "no submission in" in capsys.readouterr().err
    hand_in(tmp_path, ann="right")
    assert grade("-o", str(tmp_path)) == 2 and "lies" not in capsys.readouterr().out
    assert grade("-o", str(tmp_path / "submissions" / "out")) == 2
    assert grade("-o", str(tmp_path / "new"), "--seed-file", str(tmp_path / "none")) == 2
    assert grade("-o", str(tmp_path / "new"), "--course", str(tmp_path)) == 2
    assert run(command, str(tmp_path / "nowhere"), "-o", str(tmp_path / "new")) == 2
    (tmp_path / "short").write_text("x")
    assert grade("-o", str(tmp_path / "new2"), "--seed-file", str(tmp_path / "short")) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--shard", "3/2"],
        ["--shard", "x"],
        ["--jobs", "0"],
        ["--format", "pdf"],
        ["--fail-under", "200"],
        ["--fail-under", "-1"],
        ["--fail-under", "nan"],
    ],
)
def test_two_for_words_that_are_none(grade, tmp_path, words):
    with pytest.raises(SystemExit) as stop:
        grade("-o", str(tmp_path / "out"), *words)
    assert stop.value.code == 2


def test_three_for_a_defect_of_the_course(grade, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "course_of", defect)
    hand_in(tmp_path, ann="right")
    assert grade("-o", str(tmp_path / "out"), "--format", "gradescope") == 3
    assert "nobody was graded: 2.1" in capsys.readouterr().err
    assert "not your fault" in (tmp_path / "out" / "gradescope" / "results.json").read_text()


def test_four_without_the_sandbox_asked_for(grade, tmp_path, monkeypatch, capsys):
    sandbox = pytest.importorskip("prefcourse.grading.sandbox")
    offered = {
        "none": (True, ""),
        "limits": (True, ""),
        "landlock": (False, "old kernel"),
        "bwrap": (False, "not here"),
    }
    monkeypatch.setattr(sandbox, "offers", lambda image="": offered)
    monkeypatch.setattr(command, "settings_of", lambda args, secret: command.level_of(args.sandbox, ""))
    hand_in(tmp_path, ann="right")
    assert grade("-o", str(tmp_path / "out")) == 4
    told = capsys.readouterr().err
    assert "bwrap: not here" in told and "landlock: old kernel" in told and "--sandbox limits or none" in told
    assert command.level_of("limits", "") == "limits"  # below landlock only for those who say so
    assert command.level_of("none", "") == "none"


def test_five_if_some_could_not_be_graded(grade, tmp_path, capsys):
    hand_in(tmp_path, ann="right", bob="raise")
    (tmp_path / "submissions" / "cem").mkdir()
    assert grade("-o", str(tmp_path / "out"), "--fail-under", "0") == 5
    told = capsys.readouterr().out
    assert "invalid: cem: an empty folder" in told and "grader-error: bob/" in told
    assert [r["state"] for r in results(tmp_path / "out")] == ["graded", "grader-error", "invalid"]


def test_six_for_an_error_of_ours(grade, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "finish", lambda *_: 1 / 0)
    hand_in(tmp_path, ann="right")
    assert grade("-o", str(tmp_path / "out")) == 6


def test_130_when_stopped_with_the_way_on(grade, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["prefcourse", "grade", "subs dir", "-o", "out"])
    monkeypatch.setattr(batch, "grade", stop)
    hand_in(tmp_path, ann="right")
    assert grade("-o", str(tmp_path / "out")) == 130
    assert "prefcourse grade 'subs dir' -o out --resume" in capsys.readouterr().err


def test_resume_says_what_is_left(grade, tmp_path, capsys):
    hand_in(tmp_path, ann="right")
    assert grade("-o", str(tmp_path / "out")) == 0
    assert grade("-o", str(tmp_path / "out")) == 2 and "--resume" in capsys.readouterr().err
    hand_in(tmp_path, bob="right")
    assert grade("-o", str(tmp_path / "out"), "--resume") == 0
    assert "1 graded before, 1 to go" in capsys.readouterr().out


def test_resume_says_that_a_mended_course_is_graded_anew(grade, tmp_path, capsys, monkeypatch):
    hand_in(tmp_path, ann="right", bob="wrong")
    assert grade("-o", "out") == 0 and grade("-o", "out", "--resume") == 0
    assert "2 graded before, 0 to go" in (told := capsys.readouterr().out) and "changed" not in told
    now = replace(course(tmp_path), seed="hashed", versions={STEM: "mended"})
    monkeypatch.setattr(command, "course_of", lambda solutions, settings: now)
    assert grade("-o", "out", "--resume") == 0
    said = (
        f"{STEM} has changed since the earlier run (course or grader): all its submissions are graded again\n0 graded"
    )
    assert said in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "another secret: give the same --seed-file, or a new -o"),
        (["--seed-file", "other"], "another secret: give the same --seed-file, or a new -o"),
        (["--seed-file", "secret", "--sandbox", "limits"], "another sandbox (bwrap, now limits): give the same --sand"),
        (["--seed-file", "secret", "--shard", "1/2"], "another shard (1/1, now 1/2)"),
        (["--seed-file", "secret", "--package-answers", "allow"], "--package-answers"),
        (["--seed-file", "secret", "--timeout", "9"], "another time limit"),
    ],
)
def test_resume_never_mixes_what_was_graded_otherwise(grade, tmp_path, capsys, words, named):
    hand_in(tmp_path, ann="right")
    for name in ("secret", "other"):
        Path(name).write_text(f"{name} horse battery staple")
    assert grade("-o", "out", "--seed-file", "secret") == 0
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert grade("-o", "out", "--resume", *words) == 2 and named in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert grade("-o", "out", "--seed-file", "secret", "--resume") == 0


def test_resume_leaves_no_report_behind_that_says_something_else(grade, tmp_path):
    hand_in(tmp_path, ann="wrong")
    assert grade("-o", "out", "--format", "csv,html") == 0
    (old,) = Path("out", "feedback").iterdir()
    hand_in(tmp_path, ann="right")
    assert grade("-o", "out", "--format", "junit", "--resume") == 0
    assert "2,2,graded" in Path("out", "results.csv").read_text() and Path("out", "junit.xml").exists()
    assert not old.exists() and "100 %" in Path("out", "overview.html").read_text()
    assert json.loads(Path("out", "batch.json").read_text())["formats"] == ["csv", "junit", "html"]


def test_a_command_that_fails_leaves_no_folder(grade, tmp_path, monkeypatch, capsys):
    assert grade("-o", "out", "--format", "all") == 2 and not Path("out").exists()
    told = capsys.readouterr().err
    assert told == f"prefcourse: no such file or folder: {tmp_path / 'submissions'}\n"
    (tmp_path / "submissions").mkdir()
    assert grade("-o", "out") == 2 and not Path("out").exists()
    hand_in(tmp_path, ann="right")
    monkeypatch.setattr(batch, "on_cluster", no_scheduler)
    assert grade("-o", "out", "--cluster", "tcp://nowhere:1") == 2 and not Path("out").exists()
    monkeypatch.setattr(command, "course_of", defect)
    assert grade("-o", "out", "--format", "gradescope") == 3
    monkeypatch.setattr(command, "course_of", lambda *_: course(tmp_path))
    assert grade("-o", "out", "--format", "gradescope") == 0


def no_scheduler(*_, **__):
    raise batch.BatchError("no scheduler answers")


def defect(*_):
    raise CourseDefect("2.1: the solution and the oracle disagree")


def test_help_says_what_wins_and_what_a_call_costs():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    told = " ".join(parser.format_help().split())
    assert "where both 1 and 5 apply it is 5" in told and "stands or falls with it" in told


def test_shards_and_merge(grade, tmp_path, capsys):
    hand_in(tmp_path, **{f"s{number}": "right" if number % 2 else "wrong" for number in range(5)})
    outs = [str(tmp_path / f"shard{number}") for number in (1, 2)]
    assert grade("-o", str(tmp_path / "whole")) == 0
    assert [grade("-o", out, "--shard", f"{number}/2") for number, out in enumerate(outs, 1)] == [0, 0]
    assert run(merge, outs[0], "-o", str(tmp_path / "half")) == 2 and "missing: 2/2" in capsys.readouterr().err
    assert run(merge, *outs, "-o", str(tmp_path / "whole")) == 2 and "--resume" not in capsys.readouterr().err
    assert run(merge, *outs, "-o", str(tmp_path / "merged"), "--format", "csv,html") == 0
    for name in ("results.csv", "results.json", "overview.html"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_secret_is_in_no_file(grade, tmp_path):
    hand_in(tmp_path, ann="right")
    (tmp_path / "secret").write_text("correct horse battery staple")
    assert grade("-o", str(tmp_path / "out"), "--seed-file", str(tmp_path / "secret"), "--format", "all") == 0
    secrets = ("correct horse", command.secret_of(tmp_path / "secret"))
    for file in (path for path in (tmp_path / "out").rglob("*") if path.is_file()):
        assert not any(secret in file.read_text(encoding="utf-8") for secret in secrets)


def test_every_state_has_its_closing_words():
    from test_reports import sample

    told = "\n".join(command.closing_words(sample()))
    assert "5 submissions: 3 graded, 1 invalid, 1 grader-error" in told and "mean: 2.67 of 6 points (44 %)" in told
    assert command.closing_words([]) == ["0 submissions: "] and RECORD and State


# --- doctor ------------------------------------------------------------------------------------------------


def test_doctor_tells_why_user_namespaces_are_blocked():
    values = {"apparmor_restrict_unprivileged_userns": "1\n", "max_user_namespaces": "10000\n"}

    def read(path: Path) -> str:
        if path.name not in values:
            raise FileNotFoundError
        return values[path.name]

    assert doctor.blocked(read) == ["sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"]

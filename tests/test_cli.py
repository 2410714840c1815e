"""The command line: help that helps, clear words and exit codes for every way out, Ctrl-C included."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import prefcourse
from prefcourse import cache, cli

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PREFCOURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def called(capsys, line: str) -> tuple[int, str, str]:
    """Exit code, output and errors of a command line."""
    try:
        code = cli.main(shlex.split(line))
    except SystemExit as stop:  # argparse leaves this way
        code = stop.code
    return code, *capsys.readouterr()


def test_version(capsys):
    assert called(capsys, "--version")[:2] == (0, f"prefcourse {prefcourse.__version__}\n")


def test_no_command_shows_what_there_is(capsys):
    code, out, _ = called(capsys, "")
    assert code == 2 and all(name in out for name in cli.ABOUT)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "run",
        "agreement",
        "cache",
        "bench",
        "bench science",
        "bench speed",
        "bench grading",
        "check",
        "hint",
        "status",
        "next",
        "reset",
        "start",
        "doctor",
        "grade",
        "merge",
        "build",
        "book",
        "new",
    ],
)
def test_every_command_has_help(line, capsys):
    code, out, err = called(capsys, f"{line} --help")
    assert code == 0 and out.startswith(f"usage: prefcourse {line}".rstrip()) and err == ""


def test_help_of_run_knows_all_choices_and_defaults(capsys):
    from prefcourse.models import SIZES
    from prefcourse.stages import POPULATIONS, Settings

    text = " ".join(called(capsys, "run --help")[1].split())
    assert all(re.search(rf"\b{name}\b", text) for name in (*SIZES, *POPULATIONS))
    defaults = Settings()
    assert (defaults.seed, defaults.size, defaults.threads) == (0, "xs", 1)
    assert defaults.ppo_beta == defaults.dpo_beta == 0.1 and "(default 0.1)" in text
    assert str(defaults.folder) == str(Path("out/run-0-xs"))


def test_help_is_instant():
    """No torch for a question about options."""
    code = "import sys; from prefcourse.cli import build; build(['run']); print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "False"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("fly", "invalid choice: 'fly'"),
        ("run --seed red", "invalid int value: 'red'"),
        ("run --size xxl", "size is 'xxl'; it must be one of xs, s, m, l"),
        ("run --annotators angels", "annotators is 'angels'; it must be one of default"),
        ("run --beta 0", "dpo_beta is 0.0; it must be above 0"),
        ("run --beta -1", "is -1.0"),
        ("run --pairs nowhere.csv", "nowhere.csv: no such file"),
        ("run --out full", "full is not empty"),
        ("run --resume --out full", "full holds no run"),
        ("agreement nowhere.csv", "nowhere.csv"),
        ("bench", "required: speed|science"),
        ("cache burn", "invalid choice: 'burn'"),
    ],
)
def test_bad_input_is_exit_2_and_named(line, words, capsys, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    code, out, err = called(capsys, line)
    assert code == 2 and words in err and out == "" and "Traceback" not in err


def test_failures_are_exit_1(capsys, monkeypatch):
    from prefcourse import pipeline
    from prefcourse.train import Diverged

    for error in (Diverged("loss is nan at step 3. Try a lower learning rate"), OSError("No space left on device")):
        monkeypatch.setattr(pipeline, "run", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        code, _, err = called(capsys, "run")
        assert code == 1 and str(error) in err


def test_a_missing_part_is_said(capsys, monkeypatch):
    monkeypatch.setitem(cli.ELSEWHERE, "bench speed", "prefcourse.bench.not_written")
    code, _, err = called(capsys, "bench speed")
    assert code == 1 and "not_written" in err


def test_agreement_reads_a_file(capsys, tmp_path):
    rows = [f"{item},{who},{label}" for item in "abc" for who, label in (("ann", "first"), ("bob", "first"))]
    (tmp_path / "votes.csv").write_text("\n".join(["item,annotator,label", *rows]))
    code, out, _ = called(capsys, "agreement votes.csv")
    assert code == 0 and "100.0 %" in out


def test_cache_is_shown_and_cleared(capsys, tmp_path):
    (tmp_path / "made").mkdir()
    cache.store("sft", {"seed": 7, "size": "xs"}, tmp_path / "made")
    code, out, _ = called(capsys, "cache")
    assert code == 0 and "seed 7, size xs" in out and str(tmp_path / "cache") in out
    assert "1 entries deleted" in called(capsys, "cache clear")[1]
    assert called(capsys, "cache show")[1].startswith("0 entries")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_says_how_to_go_on_and_that_works(capsys, tmp_path):
    """Stopped for real, in its own process, after the first stage; then its own advice is followed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    line = ["run", "--quick", "--seed", "3", "--out", "my run"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path, "env": environment}
    with subprocess.Popen([sys.executable, "-m", "prefcourse", *line], **options) as process:
        assert process.stdout.readline().startswith("sft")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in err
    advice = err.splitlines()[-1].strip()
    assert shlex.split(advice) == ["prefcourse", *line, "--resume"]
    code, out, err = called(capsys, advice.removeprefix("prefcourse "))
    assert (code, err) == (0, "") and "what is python used for ?" in out
    assert out.startswith("sft") and "(done before)" in out.splitlines()[0]
    assert (tmp_path / "my run" / "report.html").is_file()

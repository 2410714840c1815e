"""A batch grades every submission once, keeps what is finished whatever happens, and tells it in one order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from prefcourse.grading import batch, reports
from prefcourse.grading.result import CheckResult, Result, State, Status

ROOT = Path(__file__).parent.parent
STEM = "02_overview"
RECORD = {"schema": 1, "shard": "1/1", "total": 0, "seed": "public", "sandbox": "none", "course": {}}


def fake_grade(submission: bytes, reference: str, settings: dict) -> Result:
    """Grades by the words in the submission: some sleep, some raise, some kill the process that grades them."""
    words = submission.decode()
    with open(Path(settings["folder"]) / "workers", "a") as log:
        log.write(f"{os.getpid()}\n")
    time.sleep(settings.get("seconds", 0))
    if "slow" in words:
        time.sleep(0.3)
    if "raise" in words:
        raise KeyError("a bug of ours")
    if "recursion" in words:
        return fake_grade(submission, reference, settings)
    if "kill" in words:
        os.kill(os.getpid(), signal.SIGKILL)
    if "once" in words and not (seen := Path(settings["folder"]) / "once").exists():
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with open(Path(settings["folder"]) / "calls", "a") as log:
        log.write(f"{words.split()[0]}\n")
    good = "right" in words
    checks = (CheckResult("2.1", "f", Status.PASSED if good else Status.FAILED, 2.0 * good, 2.0),)
    return Result("", "", "", reference, State.GRADED, checks=checks, notes=("from the graft",))


def course(tmp_path: Path, **settings) -> batch.Course:
    (tmp_path / "work").mkdir(exist_ok=True)
    facts = {"folder": str(tmp_path / "work")} | settings
    return batch.Course(fake_grade, {STEM: STEM}, facts, {STEM: "version 1"})


def hand_in(tmp_path: Path, **submissions: str) -> Path:
    source = tmp_path / "submissions"
    for student, words in submissions.items():
        (source / student).mkdir(parents=True, exist_ok=True)
        (source / student / f"{STEM}.ipynb").write_text(f"{student} {words}")
    return source


def calls(tmp_path: Path) -> list[str]:
    log = tmp_path / "work" / "calls"
    return log.read_text().split() if log.exists() else []


def run(source: Path, out: Path, course: batch.Course, workers: int = 2, shard=(1, 1), runner=None) -> list[Result]:
    record = RECORD | {"shard": "/".join(map(str, shard)), "course": course.versions}
    found = batch.plan(source, [STEM])
    batch.prepare(out, record | {"total": len(found)}, resume=True, source=source)
    tasks = batch.tasks(batch.share(found, shard), course)
    left = batch.unfinished(tasks, out)
    batch.grade(out, (runner or partial(batch.here, workers=workers))(left, course), len(left))
    results = batch.results(tasks, out, course)
    reports.write(results, out, record | {"total": len(found)}, ["csv"])
    return results


def states(results: list[Result]) -> dict[str, State]:
    return {result.student: result.state for result in results}


def test_results_come_in_the_order_of_names_with_names_and_notes(tmp_path):
    source = hand_in(tmp_path, ann="slow right", bob="wrong", cem="right", dan="slow")
    results = run(source, tmp_path / "out", course(tmp_path))
    assert [(result.student, result.points) for result in results] == [("ann", 2), ("bob", 0), ("cem", 2), ("dan", 0)]
    assert all(r.notes == ("from the graft",) and r.chapter == STEM and len(r.digest) == 64 for r in results)


def test_a_broken_submission_never_stops_the_batch(tmp_path):
    source = hand_in(
        tmp_path, ann="right", bob="raise", cem="kill", dan="recursion", eve="right", fay="right", gus="kill"
    )
    results = run(source, tmp_path / "out", course(tmp_path))
    error, good = State.GRADER_ERROR, State.GRADED
    assert list(states(results).values()) == [good, error, error, error, good, good, error]
    assert "a bug of ours" in results[1].reason and "test_batch.py, line" in results[1].reason
    assert sorted(calls(tmp_path)) == ["ann", "eve", "fay"]


def test_who_was_beside_a_dying_worker_gets_a_result(tmp_path):
    source = hand_in(tmp_path, ann="once right", bob="slow right", cem="slow right")
    assert set(states(run(source, tmp_path / "out", course(tmp_path), workers=3)).values()) == {State.GRADED}


def test_what_is_finished_is_not_graded_again_and_our_errors_are(tmp_path):
    source = hand_in(tmp_path, ann="right", bob="raise")
    run(source, tmp_path / "out", course(tmp_path))
    hand_in(tmp_path, bob="right now", cem="right")
    results = run(source, tmp_path / "out", course(tmp_path))
    assert sorted(calls(tmp_path)) == ["ann", "bob", "cem"] and sum(result.points for result in results) == 6


def test_a_grader_error_is_tried_again(tmp_path):
    source = hand_in(tmp_path, ann="raise")
    assert states(run(source, tmp_path / "out", course(tmp_path)))["ann"] == State.GRADER_ERROR
    mended = replace(course(tmp_path), grade=always_right)
    assert states(run(source, tmp_path / "out", mended))["ann"] == State.GRADED


def always_right(submission: bytes, reference: str, settings: dict) -> Result:
    return Result("", "", "", reference, State.GRADED)


def test_another_reference_seed_or_setting_is_another_key(tmp_path):
    source = hand_in(tmp_path, ann="right")
    run(source, tmp_path / "out", course(tmp_path))
    run(source, tmp_path / "out", replace(course(tmp_path), versions={STEM: "version 2"}))
    assert calls(tmp_path) == ["ann", "ann"]


def test_the_same_bytes_are_graded_once_for_two_learners(tmp_path):
    source = hand_in(tmp_path, ann="right")
    (source / "bob").mkdir()
    (source / "bob" / f"{STEM}.ipynb").write_bytes((source / "ann" / f"{STEM}.ipynb").read_bytes())
    assert [r.points for r in run(source, tmp_path / "out", course(tmp_path))] == [2, 2] and calls(tmp_path) == ["ann"]


def test_what_cannot_be_read_is_invalid_and_in_the_list(tmp_path):
    source = hand_in(tmp_path, ann="right")
    (source / "bob").mkdir()
    results = run(source, tmp_path / "out", course(tmp_path))
    assert states(results) == {"ann": State.GRADED, "bob": State.INVALID} and results[1].reason == "an empty folder"


def test_a_file_that_changes_meanwhile_is_not_graded(tmp_path):
    found = batch.plan(hand_in(tmp_path, ann="right"), [STEM])
    hand_in(tmp_path, ann="other")
    (outcome,) = batch.here(batch.tasks(found, course(tmp_path)), course(tmp_path), 1)
    assert outcome[1]["state"] == State.GRADER_ERROR and "changed" in outcome[1]["reason"]


def test_a_damaged_result_is_made_again(tmp_path):
    source, out = hand_in(tmp_path, ann="right"), tmp_path / "out"
    run(source, out, course(tmp_path))
    (kept,) = (out / "graded").iterdir()
    kept.write_text(kept.read_text()[:40])
    assert states(run(source, out, course(tmp_path)))["ann"] == State.GRADED and calls(tmp_path) == ["ann", "ann"]


# --- interrupted -------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_batch
if __name__ == "__main__":
    tmp_path = Path({tmp!r})
    test_batch.run(tmp_path / "submissions", tmp_path / "out", test_batch.course(tmp_path, seconds=0.3), workers=2)
"""


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_an_interrupted_batch_loses_nothing_and_leaves_nobody(tmp_path, name):
    source = hand_in(tmp_path, **{f"s{number:02}": "right" for number in range(12)})
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(ROOT / "tests"), tmp=str(tmp_path))))
    command = subprocess.Popen([sys.executable, script], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    graded = tmp_path / "out" / "graded"
    while not (graded.is_dir() and len(list(graded.glob("*.json"))) >= 3):
        time.sleep(0.05)
        assert command.poll() is None
    os.kill(command.pid, getattr(signal, name))
    command.wait(timeout=20)
    finished = len(list(graded.glob("*.json")))
    assert 3 <= finished < 12
    until = time.monotonic() + 15
    workers = {int(pid) for pid in (tmp_path / "work" / "workers").read_text().split()}
    while any(map(alive, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(workers) == 2 and not any(map(alive, workers))
    before = len(calls(tmp_path))
    results = run(source, tmp_path / "out", course(tmp_path))
    assert set(states(results).values()) == {State.GRADED} and len(results) == 12
    assert len(calls(tmp_path)) - before == 12 - finished


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- shards ------------------------------------------------------------------------------------------------


def test_shards_merge_into_what_one_batch_gives(tmp_path):
    source = hand_in(tmp_path, **{f"s{number}": "right" if number % 3 else "wrong" for number in range(11)})
    whole = run(source, tmp_path / "whole", course(tmp_path))
    shards = [tmp_path / f"shard{number}" for number in (1, 2, 3)]
    parts = [run(source, out, course(tmp_path), shard=(n, 3)) for n, out in enumerate(shards, 1)]
    assert sorted(map(len, parts)) == [3, 4, 4]
    merged, record = batch.merge(reversed(shards))
    assert merged == whole and record["shard"] == "1/1" and record["total"] == 11


def test_a_missing_or_unfinished_shard_is_named(tmp_path):
    source = hand_in(tmp_path, ann="right", bob="right", cem="right")
    shards = [tmp_path / f"shard{number}" for number in (1, 3)]
    for number, out in zip((1, 3), shards, strict=True):
        run(source, out, course(tmp_path), shard=(number, 3))
    with pytest.raises(batch.BatchError, match="missing: 2/3"):
        batch.merge(shards)
    (tmp_path / "shard2").mkdir()
    with pytest.raises(batch.BatchError, match="shard2 has no results.json: finish it first"):
        batch.merge([*shards, tmp_path / "shard2"])


def test_batches_that_were_not_graded_alike_do_not_merge(tmp_path):
    source = hand_in(tmp_path, ann="right")
    run(source, tmp_path / "a", course(tmp_path))
    run(source, tmp_path / "b", replace(course(tmp_path), versions={STEM: "version 2"}))
    with pytest.raises(batch.BatchError, match="different references"):
        batch.merge([tmp_path / "a", tmp_path / "b"])


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "batch": {}, "results": [{}]}'])
def test_a_results_file_that_is_none_is_named(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(batch.BatchError, match="results.json"):
        batch.merge([tmp_path])


# --- the folder --------------------------------------------------------------------------------------------


def test_nothing_is_overwritten(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(batch.BatchError, match="is not empty. To go on with the batch in it: --resume"):
        batch.prepare(out, RECORD)
    with pytest.raises(batch.BatchError, match="holds no batch"):
        batch.prepare(out, RECORD, resume=True)
    with pytest.raises(batch.BatchError, match="is a file"):
        batch.prepare(out / "mine.txt", RECORD)
    with pytest.raises(batch.BatchError, match="lies among the submissions"):
        batch.prepare(out / "below", RECORD, source=out)


# --- dask --------------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_a_cluster_gives_the_same_and_survives_a_killed_worker(tmp_path):
    distributed = pytest.importorskip("distributed", reason="pip install 'prefcourse[cluster]'")
    source = hand_in(
        tmp_path, **{f"s{number:02}": "slow right" for number in range(8)}, bad="raise", worse="once right"
    )
    settings = {"processes": True, "dashboard_address": None, "n_workers": 2, "threads_per_worker": 1}
    with distributed.LocalCluster(**settings) as cluster:
        there = run(
            source,
            tmp_path / "there",
            course(tmp_path),
            runner=partial(batch.on_cluster, address=cluster.scheduler_address),
        )
    assert (tmp_path / "work" / "once").exists()  # "worse" killed the worker that graded it first
    here = run(source, tmp_path / "here", course(tmp_path))
    assert [replace(r, reason="") for r in there] == [replace(r, reason="") for r in here]
    assert states(there) == {f"s{n:02}": State.GRADED for n in range(8)} | {
        "bad": State.GRADER_ERROR,
        "worse": State.GRADED,
    }


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    pytest.importorskip("distributed", reason="pip install 'prefcourse[cluster]'")
    with pytest.raises(batch.BatchError, match="no scheduler answers at nonsense"):
        batch.on_cluster([], course(tmp_path), "nonsense://x")  # at once, before anything is begun

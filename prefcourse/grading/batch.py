"""Many submissions, one after the other or side by side: graded once each, kept as they finish, told in one order.

Knows processes, shards and what is already done. How one is graded comes in as a function; who hands in, from
`submissions`. A result's key is what it depends on: the submission's bytes, the reference, the seed, the settings.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from prefcourse.grading import submissions
from prefcourse.grading.result import Result, State
from prefcourse.grading.submissions import Submission, Unreadable
from prefcourse.progress import progress

RECORD, GRADED, RESULTS = "batch.json", "graded", "results.json"
ALIKE = {  # what must not change within a batch: its name, and the option that says it
    "seed": ("secret", "--seed-file"),
    "sandbox": ("sandbox", "--sandbox"),
    "shard": ("shard", "--shard"),
    "package": ("policy about the package's functions", "--package-answers"),
    "seconds": ("time limit", "--timeout"),
    "memory_mb": ("memory limit", "--memory"),
    "docker_image": ("image", "--docker-image"),
}
SCHEMA = 1
GRACE = 5.0  # seconds in which a worker that was told to stop may put away its processes and folders


class BatchError(ValueError):
    """A batch that cannot be graded or merged as asked. The message names what is wrong and the way out."""


@dataclass(frozen=True)
class Course:
    """What submissions are held against."""

    grade: Callable[[bytes, Any, Any], Result]  # (submission, reference, settings)
    references: dict[str, Any]  # by the stem of their chapter
    settings: Any
    versions: dict[str, str]  # by stem: a hash of reference, seed and settings
    seed: str = "public"  # a hash of the secret
    sandbox: str = "none"


class Task(NamedTuple):
    submission: Submission
    key: str  # "" where there is nothing to grade

    def content(self) -> bytes:
        content = submissions.read(self.submission)
        if sha256(content).hexdigest() != self.submission.digest:
            raise Unreadable("the file changed while the batch was graded: grade it again with --resume")
        return content


Outcomes = Iterator[tuple[Task, dict]]


def plan(source: Path, chapters: Collection[str]) -> list[Submission]:
    """What was handed in, read once, in the order of the reports."""
    found = submissions.find(source, chapters)
    return submissions.settle(submissions.inspect(s, chapters) for s in progress(found, "reading", len(found)))


def tasks(found: Iterable[Submission], course: Course) -> list[Task]:
    return [Task(s, "" if s.problem else key_of(s.digest, course.versions[s.chapter])) for s in found]


def key_of(digest: str, version: str) -> str:
    return sha256(f"{digest} {version}".encode()).hexdigest()


def share(found: list[Submission], shard: tuple[int, int]) -> list[Submission]:
    """The i-th of n parts: every n-th, so that parts are alike in size and in work."""
    number, count = shard
    return found[number - 1 :: count]


# --- the folder --------------------------------------------------------------------------------------------


def earlier(out: Path, *, resume: bool | None = False, source: Path | None = None) -> dict:
    """The record of the batch to go on with; {} for a new one, whose folder is new or empty. Nothing is overwritten.

    `resume`: None where there is no such option. A folder for Gradescope may be there: it is made before any work.
    """
    if out.exists() and not out.is_dir():
        raise BatchError(f"{out} is a file; choose another folder: -o FOLDER")
    if source and source.resolve() in (out.resolve(), *out.resolve().parents):
        raise BatchError(f"{out} lies among the submissions; choose a folder outside of {source}: -o FOLDER")
    if not out.exists() or all(path.name == "gradescope" for path in out.iterdir()):
        return {}
    if not resume:
        on = "" if resume is None else " To go on with the batch in it: --resume."
        raise BatchError(f"{out} is not empty.{on} For a new one: -o FOLDER")
    try:
        return dict(json.loads((out / RECORD).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BatchError(f"{out} holds no batch to resume ({RECORD} is missing). A new one: -o FOLDER") from None
    except (ValueError, TypeError) as error:
        raise BatchError(f"{out / RECORD} cannot be read ({error}). A new batch: -o FOLDER") from error


def must_be_alike(before: dict, record: dict) -> None:
    """Marks under two secrets or limits are not to be mixed, and the first not to be lost."""
    was, now = ({**facts, **facts.get("settings", {})} for facts in (before, record))
    if other := [name for name in ALIKE if name in was and was[name] != now.get(name)]:
        said = [f"{ALIKE[n][0]}" if n == "seed" else f"{ALIKE[n][0]} ({was[n]}, now {now.get(n)})" for n in other]
        options = ", ".join(ALIKE[name][1] for name in other)
        raise BatchError(
            f"this batch was graded under another {', another '.join(said)}: "
            f"give the same {options}, or a new -o FOLDER"
        )


def prepare(out: Path, record: dict, *, resume: bool | None = False, source: Path | None = None) -> None:
    """Make the folder, or find it made, and say in it what the batch is."""
    earlier(out, resume=resume, source=source)
    (out / GRADED).mkdir(parents=True, exist_ok=True)
    write_record(out, record)


def write_record(out: Path, record: dict) -> None:
    """What the batch is: made at once, so that it can be resumed, and again when all is known."""
    write_whole(out / RECORD, json.dumps(record, indent=2))


def write_whole(path: Path, text: str, encoding: str = "utf-8") -> None:
    """In one step: a file is there whole, or as it was before."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding=encoding, newline="")
    os.replace(partial, path)


def kept(out: Path, key: str) -> Result | None:
    """A result found earlier; None where there is none that can be read."""
    try:
        return Result.from_dict(json.loads((out / GRADED / f"{key}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def unfinished(tasks: Iterable[Task], out: Path) -> list[Task]:
    """What is left to grade: each content once. What our own errors stopped is tried again."""
    by_key = {task.key: task for task in tasks if task.key}
    found = {key: kept(out, key) for key in by_key}
    return [by_key[key] for key, result in found.items() if result is None or result.state == State.GRADER_ERROR]


def grade(out: Path, outcomes: Outcomes, total: int | None = None) -> None:
    """Keep each result the moment it is there. Ctrl-C and SIGTERM raise KeyboardInterrupt; what is kept stays."""
    with stopped_by_sigterm():
        try:
            for task, found in progress(outcomes, "grading", total):
                write_whole(out / GRADED / f"{task.key}.json", json.dumps(found, indent=1))
        finally:
            outcomes.close()  # stops the workers


def results(tasks: Iterable[Task], out: Path, course: Course) -> list[Result]:
    """All results, each with the name, the learner and the notes of its submission."""
    return [_named(task, kept(out, task.key) if task.key else None, course) for task in tasks]


def _named(task: Task, found: Result | None, course: Course) -> Result:
    s = task.submission
    if found is None:
        state, reason = (State.INVALID, s.problem) if s.problem else (State.GRADER_ERROR, "no result was kept")
        found = Result(s.name, s.student, s.digest, s.chapter, state, reason, seed=course.seed, sandbox=course.sandbox)
    notes = (*s.notes, *found.notes)
    return replace(found, submission=s.name, student=s.student, digest=s.digest, chapter=s.chapter, notes=notes)


@contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Inside, SIGTERM (a batch system's time is up) does what Ctrl-C does."""

    def interrupt(*_) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# --- who does the work -------------------------------------------------------------------------------------


def graded(grade: Callable, content: bytes, reference: Any, settings: Any) -> dict:
    """The result as plain data; where the grader itself fails, a result that says so. Runs in a worker."""
    try:
        return grade(content, reference, settings).as_dict()
    except Exception as error:  # one broken submission must not stop the others
        return grader_error(error)


def grader_error(error: BaseException) -> dict:
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in last)
    reason = submissions.printable(f"{type(error).__name__}: {error}", 300) + where
    return Result("", "", "", "", State.GRADER_ERROR, reason).as_dict()


def here(tasks: list[Task], course: Course, workers: int) -> Outcomes:
    """Grade in processes of this machine, as they finish. When a worker dies, those that it may have died of go again,
    one at a time: who then kills a second worker is a grader-error, and all others get their result.
    """
    queue, deaths = deque(tasks), Counter()
    while queue:
        flying: dict[Future, Task] = {}
        with processes(workers) as pool:
            try:
                yield from _until_a_death(pool, queue, flying, deaths, course, workers)
            except BrokenProcessPool as error:
                deaths.update(task.key for task in flying.values())
                guilty = [task for task in flying.values() if deaths[task.key] > 1]
                queue.extendleft(task for task in flying.values() if deaths[task.key] == 1)
                yield from ((task, grader_error(error)) for task in guilty)


def _until_a_death(pool, queue: deque, flying: dict, deaths: Counter, course: Course, workers: int) -> Outcomes:
    while queue or flying:
        while queue and len(flying) < (1 if any(deaths[t.key] for t in (queue[0], *flying.values())) else workers):
            flying[_start(pool, queue[0], course)] = queue[0]
            queue.popleft()
        done = wait(flying, return_when=FIRST_COMPLETED).done
        for future in sorted(done, key=lambda future: future.exception() is not None):  # what is finished is kept first
            outcome = _outcome(future)
            yield flying.pop(future), outcome


def _start(pool: ProcessPoolExecutor, task: Task, course: Course) -> Future:
    try:
        content = task.content()
    except Unreadable as error:
        future = Future()
        future.set_exception(error)
        return future
    return pool.submit(graded, course.grade, content, course.references[task.submission.chapter], course.settings)


def _outcome(future) -> dict:
    try:
        return future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:
        return grader_error(error)


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose workers, and what they started, end with this block and with this process, however it ends."""
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin_worker)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _end(set(multiprocessing.active_children()) - others)
        raise
    pool.shutdown()


def _end(workers: set) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(GRACE)
        worker.kill()
        with suppress(ProcessLookupError, PermissionError, AttributeError):  # gone already; no groups on Windows
            os.killpg(worker.pid, signal.SIGKILL)


def _begin_worker() -> None:
    """A group of its own, so that Ctrl-C reaches the parent alone, which then stops its workers in order."""
    if hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGTERM, _leave)  # an exception runs what tidies up
    threading.Thread(target=_follow_parent, daemon=True).start()


def _leave(*_) -> None:
    raise SystemExit(143)


def _follow_parent() -> None:
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE)
    os._exit(143)


def on_cluster(tasks: list[Task], course: Course, address: str) -> Outcomes:
    """The same through dask.distributed, whose scheduler sends the work of a lost worker to another. Connects at once,
    so that nothing is begun where no scheduler answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise BatchError(f"--cluster needs dask.distributed: pip install 'prefcourse[cluster]' ({error})") from error
    try:
        client = Client(address, timeout="30s")
    except (OSError, ValueError) as error:
        raise BatchError(f"no scheduler answers at {address} ({error}). Start one: dask scheduler") from error
    return _through(client, tasks, course)


def _through(client, tasks: list[Task], course: Course) -> Outcomes:
    from distributed import as_completed

    flying = {}

    def start(task: Task) -> Future:
        future = _submit(client, task, course)
        flying[future.key] = task
        return future

    with client:
        queue = iter(tasks)
        completed = as_completed([start(task) for task in islice(queue, 4 * max(1, sum(client.nthreads().values())))])
        for future in completed:
            yield flying.pop(future.key), _outcome(future)
            for task in islice(queue, 1):
                completed.add(start(task))


def _submit(client, task: Task, course: Course):
    """Bytes travel, since a worker elsewhere has no such file; the key is the content's, so nothing is done twice."""
    try:
        work, args = graded, (course.grade, task.content(), course.references[task.submission.chapter], course.settings)
    except Unreadable as error:
        work, args = grader_error, (error,)
    return client.submit(work, *args, key=f"prefcourse-{task.key}", retries=2)


# --- several folders into one ------------------------------------------------------------------------------


def merge(folders: Iterable[Path]) -> tuple[list[Result], dict]:
    """The results of finished batches or shards, in the order of the whole, and what they have in common."""
    batches = {folder: _finished(folder) for folder in folders}
    records = [found["batch"] for found in batches.values()]
    for name in ("seed", "sandbox"):
        if len(values := {record[name] for record in records}) > 1:
            raise BatchError(f"not graded alike: {name} {' and '.join(sorted(values))}. Grade them again under one")
    versions = {(stem, version) for record in records for stem, version in record["course"].items()}
    course = dict(versions)
    if len(course) < len(versions):
        raise BatchError("graded against different references or settings, so points differ in meaning: grade again")
    _all_shards(records)
    rows = {(r.submission, r.digest): r for found in batches.values() for r in found["results"]}
    merged = sorted(rows.values(), key=lambda result: submissions.natural(result.submission))
    return merged, records[0] | {"course": course, "shard": "1/1", "total": len(merged)}


def _finished(folder: Path) -> dict:
    """What a batch told in its results.json, its results read."""
    file = folder / RESULTS
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise BatchError(f"{file} has schema {found['schema']!r}; this version reads {SCHEMA}. Grade again")
        return {"batch": found["batch"], "results": [Result.from_dict(result) for result in found["results"]]}
    except FileNotFoundError:
        raise BatchError(f"{folder} has no {RESULTS}: finish it first (prefcourse grade ... --resume)") from None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise error if isinstance(error, BatchError) else BatchError(f"{file} cannot be read: {error}") from error


def _all_shards(records: list[dict]) -> None:
    """Batches may be merged as one likes; of a batch in n shards all n must be there, or learners would be missing."""
    given: dict[tuple, set[int]] = {}
    for record in records:
        number, count = map(int, record["shard"].split("/"))
        given.setdefault((count, record["total"]), set()).add(number)
    for (count, _), numbers in given.items():
        if missing := sorted(set(range(1, count + 1)) - numbers):
            names = ", ".join(f"{number}/{count}" for number in missing)
            raise BatchError(f"of {count} shards these are missing: {names}. Add their folders")

"""`prefcourse grade`: a folder of submissions in, results and reports out.

Knows words on a command line and exit codes; the work is done by submissions, batch, grade and reports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import statistics
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from prefcourse.grading import batch, reports
from prefcourse.grading.batch import BatchError, Course
from prefcourse.grading.reports import words
from prefcourse.grading.result import Result, State
from prefcourse.grading.submissions import Unreadable
from prefcourse.progress import progress

LEVELS = ("auto", "none", "limits", "landlock", "bwrap", "docker")
SAFE = ("bwrap", "landlock")  # what auto takes, the better one first
ABOUT = """\
Grades notebooks: a folder of them, a folder of folders, or a zip, named as Canvas, Moodle, Gradescope or
people name them.

Only the answers are taken from a submission; checks and references come from the course's solutions/. Every submission
runs in a sandbox and cannot see the solutions, the others, or the network. What is finished is kept at once: after
Ctrl-C or a power cut, go on with --resume.
"""
MORE = """\
examples:
  prefcourse grade submissions.zip -o out/week2 --seed-file secret.txt
  prefcourse grade submissions/ -o out/week2 --seed-file secret.txt --resume     go on where it stopped
  prefcourse grade submissions/ -o out/part1 --shard 1/8 --seed-file secret.txt  then: prefcourse merge out/part* -o out
  prefcourse grade submissions/ -o out/week2 --cluster tcp://scheduler:8786      hundreds of machines

the secret: any file that only you have, say `openssl rand -hex 32 > secret.txt`. Without one the checks use the inputs
that learners see too, and a table of right outputs passes.

several submissions by one learner: of Canvas's numbered uploads the latest is graded, and its notes name the others;
without such numbers all are graded, and the notes of each say so.

an answer that is the package's own function, imported, wrapped or called, gives no points (--package-answers allow
changes that). One that was copied as text counts: it cannot be told from one that somebody wrote that way.

an answer that calls another exercise's function stands or falls with it: where that one is wrong, not written, or the
package's own, both fail, and the feedback names the function.

formats:%s

exit codes:
  0  grading worked, whatever the marks       4  the sandbox asked for does not work here (prefcourse doctor)
  1  a submission is below --fail-under       5  some could not be graded (invalid, grader-error); reports are written
  2  the command or its input is unusable     6  an error of ours
  3  the course's own solution fails         130  stopped; what was finished is kept
where both 1 and 5 apply it is 5: while some submissions are ungraded, the marks are not final.
"""


class SandboxUnavailable(RuntimeError):
    """The level of protection asked for does not work on this machine."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    meanings = (f"\n  {name:<13} {each.meaning}" for name, each in reports.FORMATS.items())
    parser.description, parser.epilog = ABOUT, MORE % "".join(meanings)
    add = parser.add_argument
    add("submissions", metavar="SUBMISSIONS", type=Path, help="folder of notebooks, folder of folders, or zip")
    add_output(parser)
    add("--seed-file", metavar="FILE", type=Path, help="a secret: the checks then use inputs that no learner has seen")
    add("--jobs", metavar="N", type=positive, default=max(1, cores() - 1), help="how many at once (default: cores - 1)")
    add("--sandbox", choices=LEVELS, default="auto", help="auto: bwrap, else landlock, else exit 4; name a weaker one")
    add("--docker-image", metavar="NAME", default="", help="with --sandbox docker: an image with the requirements")
    add("--package-answers", choices=("none", "allow"), default="none", help="points for the package's own functions?")
    add("--timeout", metavar="SECONDS", type=positive, help="for a whole submission (default 300)")
    add("--memory", metavar="MB", type=positive, help="for a whole submission (default 2048)")
    add(
        "--shard",
        metavar="I/N",
        type=shard,
        default=(1, 1),
        help="only the I-th of N parts; `prefcourse merge` joins them",
    )
    add("--resume", action="store_true", help="go on with the batch in OUT: what is graded is not graded again")
    add("--cluster", metavar="ADDRESS", help="of a dask scheduler whose workers have the course, too")
    add("--fail-under", metavar="P", type=percent, help="exit 1 if a submission has less than P percent (for CI)")
    add("--course", metavar="DIR", help="the course's folder; default: this one or the nearest above")


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", metavar="OUT", type=Path, required=True, help="new or empty folder for results")
    known = f"comma-separated, or all (default {','.join(reports.DEFAULT)})"
    parser.add_argument("--format", metavar="LIST", type=formats, default=reports.DEFAULT, help=known)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def percent(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) <= 100:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")


def shard(text: str) -> tuple[int, int]:
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N, such as 1/8")
    return int(number), int(count)


def formats(text: str) -> tuple[str, ...]:
    asked = tuple(reports.FORMATS) if text == "all" else tuple(filter(None, text.replace(" ", "").split(",")))
    if unknown := set(asked) - set(reports.FORMATS):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}; known formats are {', '.join(reports.FORMATS)}"
        )
    return asked


# --- the command ------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> int:
    return guarded(grade, args)


def guarded(work: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """The work's exit code, or that of what went wrong, said in one line."""
    try:
        return work(args)
    except FileNotFoundError as error:
        return complain(f"no such file or folder: {error.filename or error}", 2)
    except (BatchError, Unreadable, NotADirectoryError, PermissionError) as error:
        return complain(error, 2)
    except SandboxUnavailable as error:
        return complain(error, 4)
    except KeyboardInterrupt:
        if "resume" not in args:
            return complain("stopped", 130)
        again = shlex.join(["prefcourse", *sys.argv[1:], *([] if args.resume else ["--resume"])])
        return complain(f"stopped. What is graded is kept; to go on:\n  {again}", 130)
    except Exception as error:
        if type(error).__name__ == "CourseDefect":  # imported only where a sandbox can be had
            return complain(f"the course is wrong, nobody was graded: {error}", 3)
        traceback.print_exc()
        return complain("that was an error of ours. What is graded is kept: once it is fixed, go on with --resume", 6)


def complain(problem: object, code: int) -> int:
    print(f"prefcourse: {problem}", file=sys.stderr)
    return code


def grade(args: argparse.Namespace) -> int:
    """What is wrong with the command or the course shows before the folder is made, so that it can be said again."""
    args.submissions.stat()
    solutions, secret = solutions_of(args.course), secret_of(args.seed_file)
    settings = settings_of(args, secret)
    before = batch.earlier(args.out, resume=args.resume, source=args.submissions)
    record = record_of(args, settings)
    batch.must_be_alike(before, record)
    reports.announce(args.out, args.format)
    found = batch.plan(args.submissions, list(solutions))
    if not found:
        raise BatchError(f"no submission in {args.submissions}: no notebook (.ipynb), and no zip or folder with one")
    course = course_of({s.chapter: solutions[s.chapter] for s in found if not s.problem}, settings)
    tasks = batch.tasks(batch.share(found, args.shard), course)
    left = batch.unfinished(tasks, args.out)
    runner = partial(batch.on_cluster, address=args.cluster) if args.cluster else partial(batch.here, workers=args.jobs)
    outcomes = runner(left, course)
    # Reports of the earlier run are written anew too: none may stay behind and say something else.
    args.format = tuple(name for name in reports.FORMATS if name in {*args.format, *before.get("formats", ())})
    record |= {"total": len(found), "course": course.versions}
    batch.prepare(args.out, record | {"formats": args.format}, resume=args.resume)
    if args.resume:
        print(*mended(before.get("course", {}), course.versions), sep="", end="")
        print(f"{len({task.key for task in tasks if task.key}) - len(left)} graded before, {len(left)} to go")
    batch.grade(args.out, outcomes, len(left))
    return finish(batch.results(tasks, args.out, course), record, args)


def mended(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """A line for each chapter whose marks of the earlier run no longer count."""
    changed = [chapter for chapter, version in now.items() if before.get(chapter, version) != version]
    said = "has changed since the earlier run (course or grader): all its submissions are graded again\n"
    return [f"{chapter} {said}" for chapter in changed]


def record_of(args: argparse.Namespace, settings) -> dict:
    """What the marks of the whole batch depend on, so that --resume can hold itself to it."""
    from prefcourse.checks.run import seed_name

    kept = {name: getattr(settings, name) for name in ("package", "seconds", "memory_mb", "docker_image")}
    facts = {"schema": batch.SCHEMA, "shard": "{}/{}".format(*args.shard), "sandbox": settings.sandbox}
    return facts | {"seed": seed_name(settings.seed), "settings": kept}


def finish(results: Sequence[Result], record: dict, args: argparse.Namespace) -> int:
    """Write the reports, say how it went, and give the exit code."""
    reports.write(results, args.out, record, args.format)
    print("\n".join([*closing_words(results), *where(args.out, args.format)]))
    if any(result.state in words.UNGRADED for result in results):
        return 5
    floor = getattr(args, "fail_under", None)
    return int(floor is not None and any(100 * words.share(result) < floor for result in results))


def closing_words(results: Sequence[Result]) -> list[str]:
    counts = Counter(result.state for result in results)
    lines = [f"{len(results)} submissions: " + ", ".join(f"{counts[s]} {s.value}" for s in State if counts[s])]
    for state in list(State)[1:]:
        stopped = [result for result in results if result.state == state]
        lines += [f"  {state.value}: {words.clean(r.submission)}: {words.clean(r.reason)}" for r in stopped[:3]]
        lines += [f"  {state.value}: and {len(stopped) - 3} more"] if len(stopped) > 3 else []
    if judged := [r for r in results if r.checks and r.state not in words.UNGRADED]:
        mean, most = (
            statistics.mean(values) for values in zip(*((r.points, r.max_points) for r in judged), strict=True)
        )
        share = 100 * statistics.mean(map(words.share, judged))
        lines.append(f"mean: {words.number(mean)} of {words.number(most)} points ({share:.0f} %)")
    return lines


def where(out: Path, asked: Sequence[str]) -> list[str]:
    first = ["overview.html"] if "html" in asked else []
    others = [reports.FORMATS[name].meaning.partition(":")[0] for name in asked]
    return [f"look at {out / name}" for name in first] + [f"in {out}: {', '.join(others)}"]


# --- what to grade with ------------------------------------------------------------------------------------


def solutions_of(given: str | None) -> dict[str, Path]:
    """The solutions by their stem."""
    here = Path.cwd()
    for folder in [Path(given)] if given else [here, *here.parents]:
        if found := sorted((folder / "solutions").glob("[0-9][0-9]_*.ipynb")):
            return {path.stem: path for path in found}
    where = given or f"{here} or above it"
    raise BatchError(f"no folder solutions/ with notebooks in {where}. Go to the course's folder, or give --course DIR")


def secret_of(file: Path | None) -> str:
    """The seed of the hidden cases; "public" without a file, and that is said."""
    if file is None:
        print("prefcourse: no --seed-file: the checks use the inputs that learners see too", file=sys.stderr)
        return "public"
    secret = file.read_bytes()[:100_000].strip()
    if len(secret) < 8:
        raise BatchError(f"{file} is too short for a secret. Make one: openssl rand -hex 32 > {file}")
    return hashlib.sha256(secret).hexdigest()  # any file will do, also one that is no text


def settings_of(args: argparse.Namespace, secret: str):
    try:
        from prefcourse.grading.engine import Settings
    except ImportError as error:  # the sandbox needs POSIX
        raise SandboxUnavailable(f"grading needs Linux or macOS ({error}); on Windows use WSL") from error
    settings = Settings(seed=secret, docker_image=args.docker_image)
    if args.timeout:
        cell = min(settings.cell_seconds, float(args.timeout))
        settings = replace(settings, seconds=float(args.timeout), cell_seconds=cell)
    settings = replace(settings, memory_mb=args.memory or settings.memory_mb)
    package = "allow" if args.package_answers == "allow" else "deny"
    return replace(settings, package=package, sandbox=level_of(args.sandbox, args.docker_image))


def level_of(asked: str, docker_image: str) -> str:
    """The level to grade in. Less than landlock only for those who say so."""
    from prefcourse.grading import sandbox

    offered = sandbox.offers(docker_image)
    level = next((name for name in SAFE if offered[name][0]), None) if asked == "auto" else asked
    if level and offered[level][0]:
        return level
    reasons = "; ".join(f"{name}: {offered[name][1]}" for name in (SAFE if asked == "auto" else [asked]))
    hint = "If you trust every submission: --sandbox limits or none. More: prefcourse doctor"
    raise SandboxUnavailable(f"no sandbox. {reasons}. {hint}")


def course_of(solutions: dict[str, Path], settings) -> Course:
    """References of the chapters that somebody handed in, validated, and what results depend on."""
    from prefcourse.checks.run import seed_name
    from prefcourse.grading.grade import grade_one
    from prefcourse.grading.reference import make_reference, versions

    making = progress(solutions.items(), "references", len(solutions))
    references = {stem: make_reference(path, settings) for stem, path in making}
    seed = seed_name(settings.seed)
    depends = asdict(replace(settings, seed=seed, directory="")) | versions()
    keys = {
        stem: hashlib.sha256(json.dumps([reference.digest, depends], sort_keys=True).encode()).hexdigest()
        for stem, reference in references.items()
    }
    return Course(grade_one, references, settings, keys, seed, settings.sandbox)

"""All commands by name. Knows words on a command line; the work is done elsewhere.

Exit codes: 0 done, 1 failed, 2 unusable input, 130 stopped by Ctrl-C. Each command is imported when it is called for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shlex
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from functools import partial

import prefcourse

TEXT = argparse.RawDescriptionHelpFormatter
RUN = """\
From nothing to PPO and DPO in about a minute, offline, on one core:

  SFT -> preference pairs, labelled by annotators -> reward model -> PPO and DPO -> report

The answers are about a small world of readable English, whose true reward is known. The folder gets the models,
metrics.json, reward_kl.png and report.html: open the last one in a browser.
"""
EXAMPLES = """\
examples:
  prefcourse run                                the default, into out/run-0-xs
  prefcourse run --seed 1 --beta 0.05           another seed, a weaker pull to the SFT model
  prefcourse run --annotators flattery-loving   people with a taste: watch it reach the policies
  prefcourse run --pairs mine.csv               your own pairs (columns prompt, chosen, rejected)
  prefcourse run --resume                       go on where Ctrl-C stopped it, to the same numbers
"""
ABOUT = {
    "start": "put the course in a folder and open it in JupyterLab",
    "check": "your exercises: run a saved notebook's checks, say what holds and what does not",
    "hint": "one more hint for an exercise; --reveal shows the solution",
    "status": "what is solved, what comes next",
    "next": "the first exercise that is not solved",
    "reset": "the empty exercise again; yours is kept beside it",
    "doctor": "what this machine offers, what is missing, and the command that fixes it",
    "run": "the main job: SFT, pairs, reward model, PPO, DPO, report",
    "agreement": "how far the annotators in a file agree, and the traps in it",
    "cache": "trained models kept between runs: show or clear them",
    "grade": "for instructors: a folder or zip of submissions in, results and reports out",
    "merge": "for instructors: the results of several shards into one",
    "build": "for authors: notebooks, exercises and solutions from their scripts",
    "book": "for authors: the course as web pages, to read without running",
    "new": "for authors: write the first lines of a new exercise",
    "bench": "for authors: measure speed (against TRL), what the course claims, what grading costs",
}

ELSEWHERE = {  # modules with add_arguments(parser) and main(args)
    **{name: f"prefcourse.learner.{name}" for name in ("check", "hint", "status", "next", "reset")},
    "start": "prefcourse.learner.start",
    "doctor": "prefcourse.learner.doctor",
    "agreement": "prefcourse.agreement_report",
    "grade": "prefcourse.grading.command",
    "merge": "prefcourse.grading.merge",
    "build": "prefcourse.build.command",
    "book": "prefcourse.build.book.command",
    "new": "prefcourse.build.new",
    "bench speed": "prefcourse.bench.speed",
    "bench science": "prefcourse.bench.science",
    "bench grading": "prefcourse.bench.grading",
}


def add_run(parser: ArgumentParser) -> None:
    add = partial(parser.add_argument, default=argparse.SUPPRESS)  # what is not given is left to Settings
    add("--seed", type=int, metavar="N", help="another seed, another run (default 0)")
    add("--size", metavar="NAME", help="size of the model: xs (default), s, m, l; 0.1 to 0.8 million parameters")
    add(
        "--pairs", metavar="FILE", dest="pairs_file", help="your own preference pairs: JSONL, JSON, CSV, TSV or parquet"
    )
    people = "who labels the pairs: default, careful, length-biased, flattery-loving"
    add("--annotators", metavar="NAME", help=people)
    add("--beta", type=float, metavar="B", help="pull to the SFT model, in PPO and DPO (default 0.1)")
    add("--ppo-beta", type=float, metavar="B", help="the same in PPO alone; 0 lets the reward model be gamed")
    add("--dpo-beta", type=float, metavar="B", help="the same in DPO alone; must be above 0")
    add("--out", metavar="FOLDER", help="where the results go (default out/run-SEED-SIZE); must be new or empty")
    add("--resume", action="store_true", help="go on with the interrupted run in that folder")
    add("--no-cache", action="store_false", dest="use_cache", help="train all models again")
    add("--threads", type=int, metavar="N", help="processor threads (default 1; other numbers round differently)")
    add("--quick", action="store_true", help="a look at all stages in seconds; nothing is learned")


def run(args: Namespace, argv: Sequence[str]) -> int:
    if sys.stderr.isatty():
        print("loading torch and transformers ...", file=sys.stderr)
    from prefcourse import pipeline, report
    from prefcourse.data.schema import DataError
    from prefcourse.train import Diverged

    given = {name: value for name, value in vars(args).items() if name not in ("command", "quick", "beta")}
    both = {"ppo_beta": args.beta, "dpo_beta": args.beta} if "beta" in args else {}
    quick = pipeline.QUICK if "quick" in args else {}
    try:
        result = pipeline.run(pipeline.Settings(**quick | both | given), say=partial(print, flush=True))
    except (pipeline.RunError, DataError) as error:
        return complain(error, 2)
    except (Diverged, OSError) as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        again = shlex.join(["prefcourse", *argv, *([] if "--resume" in argv else ["--resume"])])
        return complain(f"stopped. What is done is kept; to go on:\n  {again}", 130)
    print(f"\n{report.as_text(result.metrics)}\n\nThe whole story: {result.folder / 'report.html'}")
    return 0


def complain(problem: object, code: int) -> int:
    print(f"prefcourse: {problem}", file=sys.stderr)
    return code


def cache(args: Namespace, argv: Sequence[str]) -> int:
    from prefcourse import cache

    if args.action == "clear":
        print(f"{cache.clear()} entries deleted from {cache.home()}")
        return 0
    entries = cache.entries()
    for entry in entries:
        settings = (cache.read_seal(entry) or {}).get("settings", {})
        made = ", ".join(f"{name} {settings[name]}" for name in ("seed", "size", "annotators") if name in settings)
        size = sum(path.stat().st_size for path in entry.rglob("*")) / 1e6
        print(f"{entry.name:<40}{size:7.1f} MB  {made or 'unfinished or damaged'}")
    print(f"{len(entries)} entries in {cache.home()} (set PREFCOURSE_CACHE to keep them elsewhere)")
    return 0


def build(argv: Sequence[str]) -> tuple[ArgumentParser, Callable | None]:
    """The parser, and the work of the command in `argv`. Only that command's module is imported: help is instant."""
    parser = ArgumentParser("prefcourse", description=prefcourse.__doc__.splitlines()[0])
    parser.add_argument("--version", action="version", version=f"prefcourse {prefcourse.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    parts = {name: commands.add_parser(name, help=text, description=text) for name, text in ABOUT.items()}
    parts["run"].description, parts["run"].epilog, parts["run"].formatter_class = RUN, EXAMPLES, TEXT
    add_run(parts["run"])
    parts["cache"].add_argument("action", choices=("show", "clear"), nargs="?", default="show")
    which = parts["bench"].add_subparsers(dest="which", metavar="speed|science|grading", required=True)
    parts |= {f"bench {name}": which.add_parser(name) for name in ("speed", "science", "grading")}
    command = " ".join(argv[: 2 if argv[:1] == ["bench"] else 1])
    if command not in ELSEWHERE:
        return parser, {"run": run, "cache": cache}.get(command)
    module = importlib.import_module(ELSEWHERE[command])
    module.add_arguments(parts[command])
    return parser, lambda args, argv: module.main(args)


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    warnings.formatwarning = lambda message, *_, **__: f"prefcourse: {message}\n"
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # a console that has no "±" gets a "?"
    try:
        parser, work = build(argv)
        args = parser.parse_args(argv)
        if work is None:
            parser.print_help()
            return 2
        return work(args, argv)
    except KeyboardInterrupt:
        return complain("stopped", 130)
    except BrokenPipeError:  # the reader, head or less, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except ModuleNotFoundError as error:
        return complain(f"{error}: this part is not installed; try `pip install -e .` in the course's folder", 1)


if __name__ == "__main__":
    sys.exit(main())

"""`prefcourse merge`: the folders of several shards or batches into one, with the reports of the whole."""

from __future__ import annotations

import argparse
from pathlib import Path

from prefcourse.grading import batch, command

ABOUT = """\
Joins what `prefcourse grade --shard I/N` left in several folders, or finished batches that were graded alike (same
seed, sandbox and references). A missing shard is named, and nothing is written.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = ABOUT
    parser.add_argument("folders", metavar="OUT", type=Path, nargs="+", help="folders that `prefcourse grade` filled")
    command.add_output(parser)


def main(args: argparse.Namespace) -> int:
    """0, or 5 if some could not be graded, or 2 with what is missing."""
    return command.guarded(merge, args)


def merge(args: argparse.Namespace) -> int:
    results, record = batch.merge(args.folders)
    batch.prepare(args.out, record, resume=None)
    return command.finish(results, record, args)

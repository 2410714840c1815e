"""`prefcourse agreement`: how far the annotators in a file agree, and the traps met on the way.

Knows files, sections and layout. Every number comes from prefcourse.agreement.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial

from prefcourse import agreement
from prefcourse.annotators import Vote
from prefcourse.data import votes as vote_files
from prefcourse.data.schema import DataError, in_words
from prefcourse.data.votes import CROWD, VoteSet

TIE_RULES = {"three-way": "a tie is a label too", "drop": "ties left out", "half": "a tie counts half"}
SHARED = 20  # Cohen's kappa on fewer common items says nothing
PEOPLE = 40  # and is given for the most active annotators only: pairs grow with the square
EXPERTS = {f"turn {turn}, experts": [f"turn={turn}", "judge^=expert"] for turn in (1, 2)}  # the published cut


# --- votes -> numbers -------------------------------------------------------------------------------------


def agreement_report(found: VoteSet, *, draws: int = 400, seed: int = 0) -> dict:
    """All statistics of the votes, as plain numbers. Of a person's votes on one item the first counts.

    Raises DataError when no item has labels by two people: then agreement is not defined.
    """
    votes = agreement.without_repeats(found.votes)
    by_item = agreement.group_by_item(votes)
    shared = agreement.count_labels([labels for labels in by_item if len(labels) > 1])
    people, labels = Counter(vote.annotator for vote in votes), Counter(str(vote.label) for vote in votes)
    if not len(shared.counts):
        facts = f"{len(by_item)} items, {len(people)} annotators, but no item with labels by two people"
        raise DataError(f"{facts}: agreement is not defined. Are --item and --annotator the right columns?")
    rules = TIE_RULES if "tie" in labels else ["three-way"]
    draws = min(draws, max(100, 2_000_000 // len(shared.counts)))  # many items: narrow interval, dear draws
    return {
        "items": len(by_item),
        "shared_items": len(shared.counts),
        "annotators": len(people),
        "labels": len(votes),
        "label_counts": dict(labels.most_common()),
        "agreement": {rule: _with_interval(shared, rule, draws, seed) for rule in rules},
        "unanimity": agreement.unanimity(shared)._asdict(),
        "leave_one_out": agreement.leave_one_out(shared),
        **_beyond_chance(shared),
        "cohen": _cohen(votes, people),
        "per_annotator": _per_annotator(votes, people),
        "traps": found.traps,
        "dropped": found.dropped,
    }


def _with_interval(shared: agreement.LabelCounts, rule: str, draws: int, seed: int) -> dict:
    agreeing, pairs = agreement.count_pairs(shared, ties=rule)
    rate = partial(agreement.percent_agreement, ties=rule)
    interval = agreement.bootstrap(rate, shared, draws=draws, seed=seed)
    return {"agreeing": agreeing, "pairs": pairs, **interval._asdict()}


def _beyond_chance(shared: agreement.LabelCounts) -> dict:
    """Alpha of all shared items; Fleiss' kappa, which needs equal numbers, of the largest such group."""
    sizes = shared.counts.sum(axis=1)
    each, items = Counter(sizes.tolist()).most_common(1)[0]
    equal = shared._replace(counts=shared.counts[sizes == each])
    alpha = {"nominal": agreement.krippendorff_alpha(shared)}
    if set(shared.labels) <= set(agreement.ORDER):
        alpha["ordinal"] = agreement.krippendorff_alpha(shared, "ordinal")
        alpha["symmetrised"] = agreement.symmetrised_agreement(shared)
    return {
        "alpha": alpha,
        "fleiss": {"kappa": agreement.fleiss_kappa(equal), "items": items, "labels": each},
    }


def _cohen(votes: Sequence[Vote], people: Counter) -> list[dict]:
    """Pairs of annotators with enough items in common, the most first."""
    active = {who for who, count in people.most_common(PEOPLE) if count >= SHARED}
    kappas = agreement.pairwise_cohen(vote for vote in votes if vote.annotator in active)
    rows = [{"annotators": [str(name) for name in who], **kappa._asdict()} for who, kappa in kappas.items()]
    return sorted((row for row in rows if row["items"] >= SHARED), key=lambda row: -row["items"])


def _per_annotator(votes: Sequence[Vote], people: Counter) -> list[dict]:
    """The most active first: agreement with the others' majority, share of ties, of choices shown first."""
    sizes, ties, first = Counter(vote.item for vote in votes), Counter(), defaultdict(list)
    accuracy = agreement.annotator_accuracy(vote for vote in votes if sizes[vote.item] <= CROWD)
    for vote in votes:
        ties[vote.annotator] += vote.label == "tie"
        if vote.shown_first is not None and vote.label != "tie":
            first[vote.annotator].append((vote.label == "first") == vote.shown_first)

    def row(who: object, count: int) -> dict:
        majority, compared = accuracy.get(who, (math.nan, 0))
        shown_first = sum(first[who]) / len(first[who]) if first[who] else math.nan
        shares = {"with_majority": majority, "ties": ties[who] / count, "shown_first": shown_first}
        return {"annotator": str(who), "labels": count, "compared": compared, **shares}

    return [row(who, count) for who, count in people.most_common()]


# --- numbers -> text --------------------------------------------------------------------------------------


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f} %"


def _kappa(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def as_text(report: dict) -> str:
    """The report for a reader's eyes: at most six labels, ten pairs and fifteen people; the JSON has all."""
    total = report["labels"]
    labels = [f"{name} {_percent(count / total)}" for name, count in report["label_counts"].items()]
    labels = labels[:6] + ["..."] * (len(labels) > 6)
    traps = [f"    {count} {name}" for name, count in report["traps"].items()]
    lines = [
        f"  {report['items']} items, {report['shared_items']} of them with labels by two people or more",
        f"  {report['annotators']} annotators, {total} labels: {', '.join(labels)}",
        *("", "  How often do two labels on one item agree? [95 % interval over items]", *_agreement(report)),
        *("", "  Beyond chance", *_chance(report)),
        *("", *_people(report["per_annotator"])),
        *("", "  Traps met", *(traps or ["    none"]), f"  Left out: {in_words(report['dropped'])}"),
    ]
    return "\n".join(lines)


def _agreement(report: dict) -> list[str]:
    lines = []
    for rule, row in report["agreement"].items():
        name = TIE_RULES[rule] if len(report["agreement"]) > 1 else "all labels"
        share = f"{_percent(row['estimate']):>9}  [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        lines.append(f"    {name:<22}{row['agreeing']:>9g} of {row['pairs']:<7}{share}")
    unanimous, mixed = map(_percent, report["unanimity"].values())
    lines.append(f"    of these items {unanimous} are unanimous, {mixed} mixed")
    return [*lines, f"    a label equals the majority of the others: {_percent(report['leave_one_out'])}"]


def _chance(report: dict) -> list[str]:
    alpha = ", ".join(f"{_kappa(value)} {name}" for name, value in report["alpha"].items())
    kappa, items, each = report["fleiss"].values()
    cohen = (f"{_kappa(c['kappa'])} {' / '.join(c['annotators'])} ({c['items']} items)" for c in report["cohen"])
    return [
        f"    Krippendorff's alpha  {alpha}",
        f"    Fleiss' kappa         {_kappa(kappa)} (the {items} items with {each} labels each)",
        *(f"    Cohen's kappa         {line}" for line in [*cohen][:10] or [f"no two share {SHARED} items"]),
    ]


def _people(rows: list[dict]) -> list[str]:
    layout = "  {:<20}{:>8}{:>10}{:>15}{:>9}{:>13}"
    lines = [layout.format("annotator", "labels", "compared", "with majority", "ties", "shown first")]
    for who, labels, compared, *shares in (row.values() for row in rows[:15]):
        lines.append(layout.format(who[:19], labels, compared, *map(_percent, shares)))
    more = f"and {len(rows) - 15} more (see --json). " if len(rows) > 15 else ""
    return [*lines, f"  {more}A person with fewer than some 50 compared labels cannot be judged."]


# --- the command ------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="FILE", help="JSONL, JSON, CSV, parquet; folder of a known set; hub id")
    for role, meaning in (
        ("item", "what is judged; several: a,b"),
        ("annotator", "who"),
        ("label", "verdict"),
    ):
        parser.add_argument(f"--{role}", metavar="COLUMN", help=f"column: {meaning}")
    condition = "keep rows with COLUMN=VALUE, COLUMN!=VALUE or COLUMN^=BEGINNING; repeatable"
    parser.add_argument("--where", metavar="CONDITION", action="append", default=[], help=condition)
    parser.add_argument("--split", help="split of a hub set or folder")
    parser.add_argument("--strict", action="store_true", help="stop at the first bad row")
    parser.add_argument("--json", action="store_true", help="all numbers, as JSON")


def sections(rows: Sequence[dict], where: Sequence[str], own_columns: bool) -> dict[str, Sequence[str]]:
    """Title and conditions of each report: what was asked for, or MT-Bench's published cut, or everything."""
    if where or own_columns or vote_files.known_set(rows) != "mt-bench":
        return {", ".join(where) or "all votes": where}
    return EXPERTS if any(str(row.get("judge")).startswith("expert") for row in rows) else {"all votes": []}


def reports_of(args: argparse.Namespace) -> dict[str, dict]:
    columns = {"item": args.item, "annotator": args.annotator, "label": args.label}
    rows, reports = vote_files.vote_rows(args.source, args.split), {}
    for title, where in sections(rows, args.where, any(columns.values())).items():
        kept = vote_files.where_rows(rows, where, args.source)
        found = vote_files.votes_from_rows(kept, where=args.source, strict=args.strict, **columns)
        reports[title] = agreement_report(found)
    return reports


def main(args: argparse.Namespace) -> int:
    """Print the report and return 0, or 2 with a message when the votes cannot be used."""
    try:
        reports = reports_of(args)
    except DataError as error:
        problem = str(error).removeprefix(f"{args.source}: ")
        print(f"prefcourse agreement: {args.source}: {problem}", file=sys.stderr)
        return 2
    if args.json:
        plain = json.loads(json.dumps(reports), parse_constant=lambda nan: None)  # undefined becomes null
        print(json.dumps({"source": args.source, "sections": plain}, indent=2))
    else:
        print("\n\n".join(f"{args.source}: {title}\n{as_text(report)}" for title, report in reports.items()))
    return 0

"""Real preference sets in the course's schema: from a local file or folder always, from the hub when online.

One pure function per set: a row -> its votes as schema rows, or the reason why it has none.
"""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prefcourse.data import schema
from prefcourse.data.schema import DataError, Pairs, is_empty

Converted = list[dict] | str


def vote(label, item, annotator=None, *, texts=(None, None, None), pair=None) -> dict:
    """The schema row of one label on two responses as they are listed; texts: prompt, first, second response.

    `pair`: what tells the two apart (models or texts). Sorted, it joins the item, so that (A, B) and (B, A)
    are one item, and "first" is the same one of the two in both; `swapped` records that the row lists them the other
    way round.
    """
    prompt, first, second = texts
    chosen, rejected = (second, first) if label == "second" else (first, second)
    row = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "label": label, "annotator": annotator}
    if pair is None:
        return {**row, "item": item, "swapped": None}
    names, known = list(map(str, pair)), not any(map(is_empty, (item, *pair)))  # who judged what, or nobody knows
    swapped = names != sorted(names)
    if swapped and label in ("first", "second"):
        row["label"] = "second" if label == "first" else "first"
    return {**row, "item": " | ".join([str(item), *sorted(names)]) if known else None, "swapped": swapped}


def side(sides: dict, said: object) -> str:
    """Which response a set's own label means. A label that means neither stays as it is, to be found wrong."""
    return sides.get(said, str(said))


def hh_rlhf(row: dict) -> Converted:
    """Two transcripts. The prompt ends at the last 'Assistant:' up to which they are the same."""
    marker = "\n\nAssistant:"
    chosen, rejected = row["chosen"].split(marker), row["rejected"].split(marker)
    shared = schema.shared_start(chosen, rejected)
    if shared == 0:
        return "transcripts share no 'Assistant:'"
    prompt = marker.join(chosen[:shared]) + marker
    chosen, rejected = (marker.join(parts[shared:]).strip() for parts in (chosen, rejected))
    return [{"prompt": prompt, "chosen": chosen, "rejected": rejected}]


def mt_bench(row: dict) -> Converted:
    """Two talks up to the judged turn. In turn 2 a model's own first answer belongs to its response."""
    pair = row["model_a"], row["model_b"]
    item = None if is_empty(row["question_id"]) else f"{row['question_id']} turn {row['turn']}"
    talks = [(row.get(name) or [])[: 2 * row["turn"]] for name in ("conversation_a", "conversation_b")]
    sides = {"model_a": "first", "model_b": "second", "tie": "tie", "tie (inconsistent)": "tie"}
    return [
        vote(
            side(sides, row["winner"]),
            item,
            row["judge"],
            pair=pair,
            texts=(None, talks[0] or None, talks[1] or None),
        )
    ]


def pandalm(row: dict) -> Converted:
    prompt = "\n\n".join(part for part in (row["instruction"], row["input"]) if part)
    texts = (prompt, str(row["response1"]), str(row["response2"]))  # a few responses are stored as numbers
    people = {name: row[name] for name in ("annotator1", "annotator2", "annotator3")}
    sides = {0: "tie", 1: "first", 2: "second"}
    return [vote(side(sides, said), row["idx"], who, texts=texts) for who, said in people.items()]


def tldr(row: dict) -> Converted:
    info, both = row["info"], row["summaries"]
    pair = both["text"] if isinstance(both, dict) else [summary["text"] for summary in both]
    post = f"SUBREDDIT: r/{info.get('subreddit')}\n\nTITLE: {info.get('title')}\n\nPOST: {info.get('post')}"
    prompt = post if info.get("post") else f"Article: {info.get('article')}"  # validation holds CNN/DM news too
    texts = (f"{prompt}\n\nTL;DR:", *(text.strip() for text in pair))
    label = side({0: "first", 1: "second"}, row["choice"])
    return [vote(label, info["id"], row["worker"], pair=pair, texts=texts)]


def ultrafeedback(row: dict) -> Converted:
    """GPT-4's two scores made the pair; where they are equal, chosen and rejected say nothing."""
    return [{**row, "item": row["prompt_id"], "tie": row["score_chosen"] == row["score_rejected"]}]


def helpsteer(strength: object, texts: tuple) -> Converted:
    """A vote of strength -3..3, negative when response 1 is better. Other numbers mean something else."""
    if strength not in range(-3, 4):
        return "strength of preference is not a whole number from -3 to 3"
    return [vote("tie" if strength == 0 else "first" if strength < 0 else "second", None, texts=texts)]


def helpsteer2(row: dict) -> Converted:
    """Turns of a longer talk stand in one text, apart by "<extra_id_1>Assistant" and "<extra_id_1>User" lines."""
    first, *rest = re.split(r"\n?<extra_id_1>(User|Assistant)\n", row["prompt"])
    talk = [{"role": "user", "content": first}]
    talk += [{"role": who.lower(), "content": said} for who, said in zip(rest[::2], rest[1::2], strict=True)]
    if "<extra_id_" in "".join(rest[1::2]) + first:
        return "turn marker that is not <extra_id_1>User or <extra_id_1>Assistant"
    return helpsteer(row["preference_strength"], (schema.prompt_text(talk), row["response_1"], row["response_2"]))


def helpsteer3(row: dict) -> Converted:
    return helpsteer(row["overall_preference"], (row["context"], row["response1"], row["response2"]))


def multipref(row: dict) -> Converted:
    """Two ordinary and two expert annotators; "slightly" and "clearly" better count alike."""
    texts = row.get("text"), row.get("completion_a"), row.get("completion_b")
    people = [*row["normal_worker_annotations"], *row["expert_worker_annotations"]]
    sides = {"A": "first", "B": "second", "Tie": "tie"}
    said = [(one["evaluator"], str(one["overall_pref"]).split("-is-")[0]) for one in people]
    return [vote(side(sides, label), row["comparison_id"], who, texts=texts) for who, label in said]


@dataclass(frozen=True)
class Source:
    """Where a set lives and how it is read. Lists of names are written in one string."""

    hub_id: str
    licence: str
    convert: Callable[[dict], Converted]
    splits: str  # the first is the default
    columns: str  # needed for votes and pairs alike
    texts: str = ""  # columns that only pairs need: a copy without them still has votes
    votes: bool = False  # several named annotators to an item
    config: str | None = None
    data_dir: str | None = None
    revision: str | None = None
    files: str | None = None  # how its local file's name begins, if not like the split
    split_column: str | None = None  # one file holds all splits
    home: str = "https://huggingface.co/datasets/"


# fmt: off
SOURCES = {
    "hh-rlhf": Source("Anthropic/hh-rlhf", "MIT", hh_rlhf, "train test", "chosen rejected"),
    "mt-bench": Source(
        "lmsys/mt_bench_human_judgments", "CC-BY-4.0", mt_bench, "human gpt4_pair",
        "question_id turn model_a model_b winner judge", "conversation_a conversation_b", votes=True),
    "pandalm": Source(
        "WeOpenML/PandaLM", "Apache-2.0", pandalm, "test",
        "idx instruction input response1 response2 annotator1 annotator2 annotator3", votes=True,
        files="testset", home="https://github.com/"),
    "tldr": Source(  # the repository's script no longer runs in datasets >= 4; its parquet branch does
        "openai/summarize_from_feedback", "none stated", tldr, "train validation",
        "info summaries choice worker", votes=True, data_dir="comparisons", revision="refs/convert/parquet"),
    "ultrafeedback": Source(
        "HuggingFaceH4/ultrafeedback_binarized", "MIT", ultrafeedback, "train_prefs test_prefs",
        "prompt prompt_id chosen rejected score_chosen score_rejected"),
    "helpsteer2": Source(
        "nvidia/HelpSteer2", "CC-BY-4.0", helpsteer2, "train val",
        "prompt response_1 response_2 preference_strength split",
        data_dir="preference", files="preference", split_column="split"),
    "helpsteer3": Source(
        "nvidia/HelpSteer3", "CC-BY-4.0", helpsteer3, "train validation",
        "context response1 response2 overall_preference", config="preference"),
    "multipref": Source(
        "allenai/multipref", "ODC-BY", multipref, "train",
        "comparison_id normal_worker_annotations expert_worker_annotations",
        "text completion_a completion_b", votes=True),
}
# fmt: on


def find_source(name_or_id: str) -> Source:
    """By short name or hub id; any other "owner/name" is taken to hold prompt, chosen, rejected already."""
    by_id = {source.hub_id.casefold(): source for source in SOURCES.values()}
    source = SOURCES.get(name_or_id) or by_id.get(name_or_id.casefold())
    if source is None and name_or_id.count("/") == 1:
        return Source(name_or_id, "see its page", lambda row: [row], "train", "")
    if source is None:
        near = difflib.get_close_matches(name_or_id, SOURCES, 1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        known = ", ".join(SOURCES)
        raise DataError(f"{name_or_id}: unknown set; known: {known}, or a hub id owner/name.{guess}")
    return source


def local_files(folder: Path, source: Source, split: str, subset: str | None = None) -> list[Path]:
    """One split's data files in a downloaded folder: those under a name that begins like the split."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and schema.data_format(path))
    files = {path: path.relative_to(folder).parts for path in found}
    within = subset or source.data_dir or source.config
    inside = {path: parts for path, parts in files.items() if within in (*parts, folder.name)}
    files = inside if subset else inside or files  # a folder that was asked for is no other one
    return [path for path, parts in files.items() if any(p.startswith(source.files or split) for p in parts)]


def _local_rows(source: Source, split: str, subset: str | None, path: Path) -> list[dict]:
    files = local_files(path, source, split, subset) if path.is_dir() else [path]
    if not files and subset:
        others = ", ".join(sorted(f"{one.name}/" for one in path.iterdir() if one.is_dir())) or "no folders"
        raise DataError(f"{path}: no file of the split {split!r} in a folder {subset!r} here; it holds {others}")
    if not files:
        raise DataError(f"{path}: no file here is named like the split {split!r}; give the file itself")
    return [row for file in files for row in schema.read_rows(file)]


@contextlib.contextmanager
def offline_unless_answered(hub_id: str) -> Iterator[None]:
    """One question to the hub; without an answer in 5 s, only what was downloaded before is looked at.

    Left to themselves its libraries ask five times over 24 s, and print each attempt.
    """
    import datasets
    import huggingface_hub

    flags = datasets.config, huggingface_hub.constants
    before = [flag.HF_HUB_OFFLINE for flag in flags]
    try:
        huggingface_hub.HfApi().dataset_info(hub_id, timeout=5)
    except huggingface_hub.errors.HfHubHTTPError:
        pass  # an answer, if a refusal: load_dataset will say which
    except Exception:  # no name server, no route, a proxy that is silent
        for flag in flags:
            flag.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for flag, was in zip(flags, before, strict=True):
            flag.HF_HUB_OFFLINE = was


def _hub_rows(source: Source, split: str, subset: str | None) -> Iterable[dict]:
    """A Dataset from the hub, or a DataError that says which file to fetch instead."""
    folder = subset or source.data_dir
    try:
        if "huggingface" not in source.home:
            raise ConnectionError("this set is not on the hub")
        from datasets import load_dataset

        where = {"name": source.config, "data_dir": folder, "revision": source.revision}
        with offline_unless_answered(source.hub_id):
            return load_dataset(source.hub_id, split="train" if source.split_column else split, **where)
    except Exception as error:  # offline, moved, gated, no such split: the hub fails in many ways
        file = "/".join(filter(None, [folder or source.config, f"{source.files or split}*"]))
        cause = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:160]}"
        way_out = f"Fetch {file} from {source.home}{source.hub_id} and give its path"
        hint = "Without a network, HF_HUB_OFFLINE=1 skips the attempt and uses what was downloaded before"
        raise DataError(f"{source.hub_id}: could not be loaded ({cause}). {way_out}. {hint}.") from error


def source_rows(source: Source, path=None, split=None, subset=None) -> Iterable[dict]:
    """The rows of one split as they are stored: from `path` (file or folder), else from the hub."""
    splits, column = source.splits.split(), source.split_column
    split = split or splits[0]
    if split not in splits and source in SOURCES.values():
        raise DataError(f"{source.hub_id}: no split {split!r}; it has {', '.join(splits)}")
    where = (source, split, subset)
    rows = _hub_rows(*where) if path is None else _local_rows(*where, Path(path))
    return [row for row in rows if row.get(column, split) == split] if column else rows


def converted_rows(rows: Iterable[dict], source: Source) -> Iterator[tuple[int, dict | str]]:
    """(row number from 1, schema row or reason), zero or more to a row; an unknown layout is a reason."""
    for number, row in enumerate(rows, 1):
        try:
            found = source.convert(row)
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            found = f"not the documented layout ({type(error).__name__}: {error})"
        yield from ((number, one) for one in ([found] if isinstance(found, str) else found))


def load_pairs(name_or_id: str, path=None, *, split=None, subset=None, strict=False, ties="drop") -> Pairs:
    """Pairs of a set in SOURCES or on the hub; with `path` (its file or folder) nothing is downloaded.

    `subset` is a folder of the set, such as 'helpful-base' of hh-rlhf. Several votes on a pair: several rows.
    """
    source, where = find_source(name_or_id), path or name_or_id
    rows = source_rows(source, path, split, subset)
    schema.need_columns(where, schema.columns_of(rows), f"{source.columns} {source.texts}".split())
    return schema.some_pairs(where, converted_rows(rows, source), strict=strict, ties=ties)

"""Preference pairs: what is kept, what is left out and why, and every documented layout of the real sets."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from prefcourse.agreement import count_pairs, group_by_item
from prefcourse.data import SOURCES, DataError, load_pairs, pairs_from_rows, read_pairs, read_votes, votes_from_rows
from prefcourse.data.schema import TIE, read_rows

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real sets are not here")

GOOD = {"prompt": "what is a drill ?", "chosen": "a tool .", "rejected": "yeah ."}
BAD = {
    "missing rejected": {"prompt": "p", "chosen": "a"},
    "empty chosen": {**GOOD, "chosen": " \n"},
    "chosen is not text": {**GOOD, "chosen": 7},
    "identical responses": {**GOOD, "rejected": "a tool .  "},
    "wrong label (known: first, second, tie)": {**GOOD, "label": "model_a"},
}


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(json.dumps(row) for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def chat(*contents: str) -> list[dict]:
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]


# --- the schema -------------------------------------------------------------------------------------------


def test_every_row_is_kept_or_counted_by_its_reason():
    pairs, dropped = pairs_from_rows([GOOD, *BAD.values(), GOOD, BAD["empty chosen"]])
    assert pairs.to_list() == [GOOD, GOOD]
    assert dropped == dict.fromkeys(BAD, 1) | {"empty chosen": 2}


@pytest.mark.parametrize("reason", BAD)
def test_strict_names_row_and_reason(reason):
    with pytest.raises(DataError, match="row 3") as caught:
        pairs_from_rows([GOOD, GOOD, BAD[reason]], strict=True)
    assert reason in str(caught.value)


def test_a_tie_is_no_fault_but_no_preference_either():
    rows = [GOOD, {**GOOD, "label": "tie"}, {**GOOD, "tie": True}, {**GOOD, "tie": "False"}]
    pairs, dropped = pairs_from_rows(rows, strict=True)
    assert len(pairs) == 2 and dropped == {TIE: 2}
    assert pairs_from_rows(rows, ties="keep").pairs["tie"] == [False, True, True, False]


def test_known_columns_travel_and_others_stay_behind():
    pairs, _ = pairs_from_rows([{**GOOD, "item": 3, "annotator": "ann", "label": "second", "hobby": "x"}, GOOD])
    assert pairs.column_names == ["prompt", "chosen", "rejected", "item", "annotator", "label"]
    assert pairs["item"][:] == ["3", None] and pairs["label"][:] == ["second", None]


def test_no_rows_still_have_the_schema_and_a_dataset_is_accepted():
    empty = pairs_from_rows([]).pairs
    assert empty.column_names == ["prompt", "chosen", "rejected"] and len(empty) == 0
    once = pairs_from_rows([GOOD]).pairs
    assert pairs_from_rows(once).pairs.to_list() == [GOOD]


def test_chat_messages_become_text_and_what_both_share_is_the_prompt():
    row = {"chosen": chat("hi", "hello", "why ?", "because"), "rejected": chat("hi", "hello", "why ?", "no")}
    [pair] = pairs_from_rows([row]).pairs.to_list()
    assert pair["prompt"] == "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: why ?\n\nAssistant:"
    assert (pair["chosen"], pair["rejected"]) == ("because", "no")
    trl = {"prompt": chat("hi"), "chosen": chat("", "a")[1:], "rejected": chat("", "b")[1:]}
    assert pairs_from_rows([trl]).pairs.to_list() == [{"prompt": "hi", "chosen": "a", "rejected": "b"}]


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.csv", "a.tsv", "a.csv.gz", "a.parquet"])
def test_the_same_pairs_come_out_of_every_format(tmp_path, name):
    import pandas

    path, table = tmp_path / name, pandas.DataFrame([{**GOOD, "chosen": 'a "tool", it\nis'}, GOOD])
    if "json" in name:
        table.to_json(path, orient="records", lines="jsonl" in name)
    elif name.endswith("parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",")
    assert read_pairs(path).pairs.to_list() == table.to_dict("records")


def test_a_spreadsheets_byte_order_mark_and_semicolons_are_understood(tmp_path):
    path = tmp_path / "sheet.csv"
    path.write_bytes("\ufeffprompt;chosen;rejected\np, q;a, b;c\n".encode())
    assert read_pairs(path).pairs.to_list() == [{"prompt": "p, q", "chosen": "a, b", "rejected": "c"}]


def test_a_response_longer_than_the_csv_modules_default_limit(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text(f"prompt,chosen,rejected\np,{'a' * 200_000},b\n")
    assert len(read_pairs(path).pairs[0]["chosen"]) == 200_000


BROKEN = {
    "latin.csv": ("prompt,chosen,rejected\np,caf\u00e9,b\n".encode("latin-1"), "not UTF-8"),
    "empty.csv": (b"", "no rows"),
    "header.csv": (b"prompt,chosen,rejected\n", "no rows"),
    "cut.jsonl": (b'{"prompt": "p"}\n{"pro', "row 2 is not JSON"),
    "list.json": (b"[[1]]", "row 1 is a list"),
    "extra.csv": (b"prompt,chosen,rejected\np,a,b\np,a,b,c\n", "row 2 has more fields"),
    "no.parquet": (b"hello", "arquet"),
    "no.csv.gz": (b"hello", "gzip"),
    "pairs.xlsx": (b"hello", "unknown suffix"),
    "typo.csv": (b"prompt,choosen,rejected\np,a,b\n", "Is 'choosen' meant for 'chosen'"),
    "hh.jsonl": (b'{"chosen": "x", "rejected": "y"}', "load_pairs"),
    "same.csv": (b"prompt,chosen,rejected\np,a,a\n", "no usable pair. Left out: 1 x identical responses"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gives_its_name_the_problem_and_no_traceback(tmp_path, name):
    content, problem = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_pairs(tmp_path / name)
    assert name in str(caught.value) and problem in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_pairs(tmp_path / "gone.csv")
    with pytest.raises(DataError, match="a folder"):
        read_rows(tmp_path)


# --- the real sets, in miniature --------------------------------------------------------------------------

TLDR = {
    "info": {"id": "t3", "post": "long story", "title": "T", "subreddit": "tifu"},
    "summaries": [{"text": " short", "policy": "sup"}, {"text": " shorter", "policy": "ppo"}],
    "choice": 1,
    "worker": "w1",
}
NEWS = {**TLDR, "info": {"id": "c1", "post": None, "article": "news"}, "choice": 0, "worker": "w2"}
MT_BENCH = {
    **{"question_id": 81, "turn": 2, "model_a": "vicuna", "model_b": "alpaca", "winner": "model_b"},
    **{
        "judge": "expert_1",
        "conversation_a": chat("q", "a1", "r", "a2"),
        "conversation_b": chat("q", "b1", "r", "b2"),
    },
}
PANDALM = {
    **{"idx": 5, "instruction": "do", "input": "this", "response1": 12, "response2": "two"},
    **{"annotator1": 1, "annotator2": 2, "annotator3": 0},
}
PREFERENCES = ("A-is-clearly-better", "Tie", "B-is-slightly-better", "A-is-slightly-better")
PEOPLE = [{"evaluator": f"e{number}", "overall_pref": said} for number, said in enumerate(PREFERENCES)]
MULTIPREF = {
    **{"comparison_id": "c", "text": "p", "completion_a": "a", "completion_b": "b"},
    **{"normal_worker_annotations": PEOPLE[:2], "expert_worker_annotations": PEOPLE[2:]},
}
ULTRA = {
    **{"prompt": "p", "prompt_id": "i", "score_chosen": 8.0, "score_rejected": 5.0},
    **{"chosen": chat("p", "good"), "rejected": chat("p", "bad")},
}
STEER2 = {
    "prompt": "p",
    "response_1": "one",
    "response_2": "two",
    "preference_strength": -2,
    "split": "train",
}
STEER3 = {"context": chat("q", "a", "r"), "response1": "one", "response2": "two", "overall_preference": 3}
HUMAN = "\n\nHuman: hi\n\nAssistant: yes ?\n\nHuman: go\n\nAssistant:"
HH = {"chosen": f"{HUMAN} sure\n\nHuman: more\n\nAssistant: ok", "rejected": f"{HUMAN} no"}


def triples(result) -> list[tuple]:
    return [(row["prompt"], row["chosen"], row["rejected"]) for row in result.pairs]


def test_hh_rlhf_is_split_at_the_last_common_assistant(tmp_path):
    unlike = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}
    empty = {"chosen": HUMAN, "rejected": f"{HUMAN} no"}
    result = load_pairs("hh-rlhf", write(tmp_path / "x.jsonl", [HH, unlike, empty]))
    assert triples(result) == [(HUMAN, "sure\n\nHuman: more\n\nAssistant: ok", "no")]
    assert result.dropped == {"transcripts share no 'Assistant:'": 1, "empty chosen": 1}
    with pytest.raises(DataError, match="x.jsonl: row 2: transcripts"):
        load_pairs("hh-rlhf", tmp_path / "x.jsonl", strict=True)


def test_mt_bench_takes_the_talk_up_to_the_judged_turn(tmp_path):
    first = {**MT_BENCH, "turn": 1, "winner": "model_a"}
    strange = {**MT_BENCH, "winner": "nobody"}
    result = load_pairs("mt-bench", write(tmp_path / "human.jsonl", [MT_BENCH, first, strange]))
    answers = [f"{model}1\n\nHuman: r\n\nAssistant: {model}2" for model in "ba"]
    assert triples(result) == [("q", *answers), ("q", "a1", "b1")]
    assert result.pairs["item"][0] == "81 turn 2 | alpaca | vicuna"
    assert result.dropped == {"wrong label (known: first, second, tie)": 1}


def test_first_is_the_same_model_in_both_orientations(tmp_path):
    """Three judges prefer alpaca: two saw it second, one saw it first. Counted from pairs or from votes: 3 of 3."""
    turned = {"model_a": "alpaca", "model_b": "vicuna", "winner": "model_a", "judge": "expert_3"}
    turned |= {"conversation_a": MT_BENCH["conversation_b"], "conversation_b": MT_BENCH["conversation_a"]}
    path = write(tmp_path / "human.jsonl", [MT_BENCH, {**MT_BENCH, "judge": "expert_2"}, {**MT_BENCH, **turned}])
    pairs = load_pairs("mt-bench", path).pairs
    assert pairs["label"][:] == ["first"] * 3 and len(set(pairs["item"])) == len(set(pairs["chosen"])) == 1
    for votes in (votes_from_rows(pairs.to_list()), read_votes(path)):
        assert count_pairs(group_by_item(votes.votes)) == (3, 3)


def test_pandalm_gives_a_pair_per_annotator_and_counts_ties(tmp_path):
    result = load_pairs("WeOpenML/PandaLM", write(tmp_path / "testset-v1.json", [PANDALM]))
    assert triples(result) == [("do\n\nthis", "12", "two"), ("do\n\nthis", "two", "12")]
    assert result.pairs["annotator"][:] == ["annotator1", "annotator2"] and result.dropped == {TIE: 1}


def test_tldr_knows_posts_and_news_and_both_ways_to_store_summaries(tmp_path):
    lists = {**TLDR, "summaries": {"text": [" short", " shorter"], "policy": ["sup", "ppo"]}}
    result = load_pairs("tldr", write(tmp_path / "x.jsonl", [TLDR, lists, NEWS]))
    post = "SUBREDDIT: r/tifu\n\nTITLE: T\n\nPOST: long story\n\nTL;DR:"
    told = (post, "shorter", "short")
    assert triples(result) == [told, told, ("Article: news\n\nTL;DR:", "short", "shorter")]


def test_ultrafeedback_counts_equal_scores_as_ties(tmp_path):
    path = write(tmp_path / "x.jsonl", [ULTRA, {**ULTRA, "score_rejected": 8.0}])
    result = load_pairs("ultrafeedback", path)
    assert triples(result) == [("p", "good", "bad")] and result.dropped == {TIE: 1}


def test_helpsteer_signs_and_its_split_column(tmp_path):
    rows = [
        STEER2,
        {**STEER2, "preference_strength": 0},
        {**STEER2, "preference_strength": 1, "split": "val"},
    ]
    path = write(tmp_path / "preference.jsonl.gz", rows)
    train, val = load_pairs("helpsteer2", path), load_pairs("helpsteer2", path, split="val")
    assert triples(train) == [("p", "one", "two")] and train.dropped == {TIE: 1}
    assert triples(val) == [("p", "two", "one")]
    strange = [{**STEER2, "preference_strength": strength} for strength in (-100, 4, 1.5, None)]
    odd = load_pairs("helpsteer2", write(tmp_path / "odd.jsonl", [STEER2, *strange]))
    assert len(odd.pairs) == 1 and odd.dropped == {"strength of preference is not a whole number from -3 to 3": 4}
    context = "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant:"
    assert triples(load_pairs("helpsteer3", write(tmp_path / "y.jsonl", [STEER3]))) == [(context, "two", "one")]


def test_helpsteer2s_turns_are_a_transcript(tmp_path):
    talk = "hi\n<extra_id_1>Assistant\nyes ?\n<extra_id_1>User\ngo"
    rows = [{**STEER2, "prompt": prompt} for prompt in (talk, "hi<extra_id_1>Robot\nyes ?")]
    found = load_pairs("helpsteer2", write(tmp_path / "x.jsonl", rows))
    assert triples(found) == [(HUMAN, "one", "two")]
    assert found.dropped == {"turn marker that is not <extra_id_1>User or <extra_id_1>Assistant": 1}


def test_multipref_gives_four_votes(tmp_path):
    result = load_pairs("multipref", write(tmp_path / "x.jsonl", [MULTIPREF]), ties="keep")
    assert result.pairs["label"][:] == ["first", "tie", "second", "first"]
    assert result.pairs["annotator"][:] == ["e0", "e1", "e2", "e3"]
    assert result.pairs["chosen"][:] == ["a", "a", "b", "a"]


def test_a_label_of_none_is_wrong_and_no_preference(tmp_path):
    nobody = [{"evaluator": "e", "overall_pref": None}]
    rows = {
        "mt-bench": {**MT_BENCH, "winner": None},
        "tldr": {**TLDR, "choice": None},
        "multipref": {**MULTIPREF, "normal_worker_annotations": nobody, "expert_worker_annotations": []},
    }
    for name, row in rows.items():
        with pytest.raises(DataError, match="no usable pair. Left out: 1 x wrong label"):
            load_pairs(name, write(tmp_path / f"{name}.jsonl", [row]))


def test_an_unknown_layout_is_a_reason_and_a_missing_column_is_named(tmp_path):
    odd = {**TLDR, "summaries": [{"text": "only one"}]}
    result = load_pairs("tldr", write(tmp_path / "x.jsonl", [TLDR, odd]))
    [reason] = result.dropped
    assert "not the documented layout" in reason and len(result.pairs) == 1
    labels_only = {name: value for name, value in MT_BENCH.items() if "conversation" not in name}
    with pytest.raises(DataError, match="missing columns: conversation_a"):
        load_pairs("mt-bench", write(tmp_path / "y.jsonl", [labels_only]))


def test_a_downloaded_folder_gives_the_split_that_was_asked_for(tmp_path):
    write(tmp_path / "preference" / "preference.jsonl.gz", [STEER2])
    write(tmp_path / "train.jsonl.gz", [{"prompt": "p", "response": "r", "helpfulness": 3}])
    assert triples(load_pairs("helpsteer2", tmp_path)) == [("p", "one", "two")]
    hh = tmp_path / "hh"
    write(hh / "helpful-base" / "test.jsonl.gz", [HH])
    write(hh / "harmless-base" / "test.jsonl.gz", [HH, HH])
    assert len(load_pairs("hh-rlhf", hh, split="test").pairs) == 3
    assert len(load_pairs("hh-rlhf", hh, split="test", subset="helpful-base").pairs) == 1
    assert len(load_pairs("hh-rlhf", hh / "helpful-base", split="test", subset="helpful-base").pairs) == 1
    with pytest.raises(DataError, match="in a folder 'helpful-online' here; it holds harmless-base/, helpful-base/"):
        load_pairs("hh-rlhf", hh, split="test", subset="helpful-online")
    with pytest.raises(DataError, match="give the file itself"):
        load_pairs("hh-rlhf", hh)
    with pytest.raises(DataError, match="no split 'valid'; it has train, test"):
        load_pairs("hh-rlhf", hh, split="valid")


# --- the hub ----------------------------------------------------------------------------------------------


def test_what_is_asked_of_the_hub(monkeypatch):
    """TL;DR must come from the parquet branch by data_dir: config names do not exist there."""
    import datasets

    asked = {}

    def load_dataset(hub_id, **where):
        asked[hub_id] = {name: value for name, value in where.items() if value is not None}
        return datasets.Dataset.from_list([STEER2, STEER2 | {"split": "val"}] if "Steer" in hub_id else [TLDR])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load_pairs("tldr", split="validation").pairs) == 1
    assert len(load_pairs("nvidia/helpsteer2", split="val").pairs) == 1
    parquet = {"data_dir": "comparisons", "revision": "refs/convert/parquet", "split": "validation"}
    assert asked["openai/summarize_from_feedback"] == parquet
    assert asked["nvidia/HelpSteer2"] == {"data_dir": "preference", "split": "train"}


def test_any_hub_set_in_the_schema_loads(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: datasets.Dataset.from_list([GOOD]))
    assert load_pairs("somebody/some-pairs").pairs.to_list() == [GOOD]


def test_offline_says_which_file_to_give(monkeypatch):
    import datasets

    def load_dataset(*a, **k):
        raise ConnectionError("Couldn't reach the Hub\nlong story")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError) as caught:
        load_pairs("tldr")
    message = str(caught.value)
    assert "Couldn't reach the Hub" in message and "long story" not in message
    assert "Fetch comparisons/train* from https://huggingface.co/datasets/openai/summarize_from_feedback" in message
    assert "HF_HUB_OFFLINE=1" in message
    with pytest.raises(DataError, match="Fetch testset.* from https://github.com/WeOpenML/PandaLM"):
        load_pairs("pandalm")


@pytest.mark.parametrize("silent", [True, False])
def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch, silent):
    """Then only what was downloaded before is looked at; its libraries would ask for 24 s."""
    import datasets
    import huggingface_hub

    seen = []

    def dataset_info(self, hub_id, timeout):
        if silent:
            raise OSError("Name or service not known")

    def load_dataset(*a, **k):
        seen.append((huggingface_hub.is_offline_mode(), datasets.config.HF_HUB_OFFLINE))
        raise ConnectionError("Couldn't reach the Hub")

    for flag in (huggingface_hub.constants, datasets.config):
        monkeypatch.setattr(flag, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match="HF_HUB_OFFLINE=1"):
        load_pairs("tldr")
    assert seen == [(silent, silent)] and not huggingface_hub.is_offline_mode()


def test_an_unknown_name_gets_the_nearest_match():
    with pytest.raises(DataError, match="Did you mean 'mt-bench'"):
        load_pairs("mt_bench")


def test_every_source_names_licence_split_and_columns():
    for source in SOURCES.values():
        assert source.licence and source.splits and source.columns and source.hub_id.count("/") == 1


# --- the real data ----------------------------------------------------------------------------------------


@real
def test_real_hh_rlhf():
    pairs, dropped = load_pairs("hh-rlhf", REAL / "hh_rlhf_harmless_test", split="test")
    assert len(pairs) == 2308 and dropped == {"empty chosen": 4}
    assert all(row["prompt"].startswith("\n\nHuman:") and row["prompt"].endswith("\n\nAssistant:") for row in pairs)


@real
def test_real_pandalm():
    pairs, dropped = load_pairs("pandalm", REAL / "pandalm_testset")
    assert len(pairs) + sum(dropped.values()) == 3 * 999
    assert set(dropped) == {TIE, "empty chosen", "empty rejected"}

"""The main job: the same numbers however often it was interrupted, nothing overwritten, clear words for bad input."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from prefcourse import cache, models, pipeline, report, stages, train
from prefcourse.data.own import read_own_pairs, spaced
from prefcourse.data.schema import DataError
from prefcourse.pipeline import QUICK, RunError, run
from prefcourse.stages import Lab, Settings
from prefcourse.worlds.pocket import PocketWorld

WORLD = PocketWorld()
TOKENIZER = WORLD.tokenizer()


def tiny(out: Path, **changes) -> Settings:
    return Settings(**QUICK | {"out": out, "use_cache": False} | changes)


def numbers(folder: Path) -> dict:
    """metrics.json without seconds and memory."""
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["cost"]
    return metrics


def quietly(text: str) -> None:
    pass


@pytest.fixture(scope="module")
def cache_home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(cache_home, monkeypatch):
    monkeypatch.setenv("PREFCOURSE_CACHE", str(cache_home))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache_home) -> Path:
    """A run from beginning to end, which fills the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFCOURSE_CACHE", str(cache_home))
        return run(tiny(tmp_path_factory.mktemp("runs") / "whole", use_cache=True), say=quietly).folder


@pytest.fixture
def copied(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copied"))


# --- what comes out ----------------------------------------------------------------------------------------


def test_everything_promised_is_in_the_folder(whole):
    files = {path.name for path in whole.iterdir()}
    assert files == {*pipeline.STAGES, "metrics.json", "reward_kl.png", "report.html"}
    assert (whole / "reward_kl.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((whole / "metrics.json").read_text())
    assert list(metrics["policies"]) == ["base", "SFT", "PPO", "DPO"]
    assert set(metrics["cost"]["seconds"]) == set(pipeline.STAGES)
    assert metrics["samples"][0]["prompt"] == "what is python used for ?"
    assert metrics["policies"]["SFT"]["kl"] == pytest.approx(0, abs=1e-4)  # the reference is SFT itself


def test_gold_of_the_samples_is_the_worlds(whole):
    for sample in json.loads((whole / "metrics.json").read_text())["samples"]:
        for answer in sample["answers"].values():
            points = [float(reason.split()[0]) for reason in answer["why"]]
            assert sum(points) == pytest.approx(answer["gold"], abs=1e-3)


def test_models_load_like_any_other(whole):
    from transformers import AutoTokenizer

    assert AutoTokenizer.from_pretrained(whole / "sft").get_vocab() == TOKENIZER.get_vocab()
    weights = [models.load_lm(whole / stage).lm_head.weight for stage in ("sft", "ppo", "dpo")]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert models.RewardModel.from_pretrained(whole / "reward_model").head.weight.abs().sum() > 0


def test_the_callers_random_state_and_threads_stay(whole, copied):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    shutil.rmtree(copied / "dpo")
    run(tiny(copied, resume=True), say=quietly)
    assert torch.equal(state, torch.get_rng_state()) and torch.get_num_threads() == threads


# --- interrupted, resumed, cached ----------------------------------------------------------------------------


def test_interrupted_and_resumed_gives_the_same_numbers(whole, tmp_path, monkeypatch):
    """Ctrl-C in the middle of PPO, without any cache; the stages before it are not done again."""
    out, heard, ppo = tmp_path / "out", [], train.ppo

    def interrupted(*args, **kwargs):
        yield next(ppo(*args, **kwargs))
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "ppo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tiny(out), say=quietly)
    assert {path.name for path in out.iterdir()} == {"sft", "pairs", "reward_model"}
    monkeypatch.setattr(train, "ppo", ppo)
    (out / f".ppo-0{cache.PARTIAL}").mkdir()  # as after a power cut
    run(tiny(out, resume=True), say=heard.append)
    assert [line.split()[0] for line in heard if "done before" in line] == ["sft", "pairs", "reward_model"]
    assert numbers(out) == numbers(whole)
    for stage in ("sft", "reward_model", "ppo", "dpo"):
        assert (out / stage / "model.safetensors").read_bytes() == (whole / stage / "model.safetensors").read_bytes()
    assert not list(out.glob(".*"))


def test_the_cache_saves_work_and_changes_no_number(whole, tmp_path):
    result = run(tiny(tmp_path / "out", use_cache=True), say=quietly)
    assert result.metrics["cost"]["from_cache"] == ["sft", "reward_model"]
    assert numbers(result.folder) == numbers(whole)


def test_a_finished_run_resumed_only_reports_again(copied):
    before = {path: path.stat().st_mtime_ns for path in copied.glob("*/*")}
    heard = []
    run(tiny(copied, resume=True), say=heard.append)
    assert all("done before" in line for line in heard) and len(heard) == len(pipeline.STAGES)
    assert {path: path.stat().st_mtime_ns for path in copied.glob("*/*")} == before


def test_a_changed_stage_is_set_aside_with_a_word_and_done_again(whole, copied):
    weights = copied / "dpo" / "model.safetensors"
    weights.write_bytes(b"precious")
    with pytest.warns(UserWarning, match=r"in .*dpo was changed: set aside as dpo.old1"):
        run(tiny(copied, resume=True), say=quietly)
    assert (copied / "dpo.old1" / "model.safetensors").read_bytes() == b"precious"
    assert weights.read_bytes() == (whole / "dpo" / "model.safetensors").read_bytes()
    assert numbers(copied) == numbers(whole)


def test_a_failed_stage_leaves_nothing_behind(tmp_path, monkeypatch):
    def diverged(*args, **kwargs):
        raise train.Diverged("loss is nan")
        yield

    monkeypatch.setattr(train, "sft", diverged)
    with pytest.raises(train.Diverged):
        run(tiny(tmp_path / "out"), say=quietly)
    assert list((tmp_path / "out").iterdir()) == []


# --- nothing is overwritten ---------------------------------------------------------------------------------


def test_a_folder_with_anything_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match=r"is not empty.*--resume.*--out"):
        run(tiny(tmp_path), say=quietly)
    with pytest.raises(RunError, match="holds no run"):
        run(tiny(tmp_path, resume=True), say=quietly)
    with pytest.raises(RunError, match="is a file"):
        run(tiny(tmp_path / "thesis.txt"), say=quietly)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["precious"]


def test_a_folder_in_the_way_is_left_alone(copied):
    (copied / "dpo" / cache.SEAL).unlink()
    before = sorted(copied.rglob("*"))
    with pytest.raises(RunError, match="dpo is in the way"):
        run(tiny(copied, resume=True), say=quietly)
    assert sorted(copied.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed was 0, now 1"),
        ({"ppo_beta": 0.5}, r"ppo_beta was 0.1, now 0.5"),
        ({"size": "s", "annotators": "careful"}, "size was 'xs', now 's', annotators was 'default', now 'careful'"),
    ],
)
def test_other_settings_are_named(change, words, copied):
    before = numbers(copied)
    with pytest.raises(RunError, match=words):
        run(tiny(copied, resume=True, **change), say=quietly)
    assert numbers(copied) == before


def test_other_code_is_named(copied, monkeypatch):
    monkeypatch.setattr(cache, "code_version", lambda: "another")
    with pytest.raises(RunError, match="another version of the code"):
        run(tiny(copied, resume=True), say=quietly)


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": "xxl"}, "size is 'xxl'; it must be one of xs, s, m, l"),
        ({"annotators": "angels"}, "annotators is 'angels'; it must be one of default, careful"),
        ({"dpo_beta": 0.0}, "dpo_beta is 0.0; it must be above 0.*--ppo-beta 0"),
        ({"dpo_beta": float("nan")}, "dpo_beta is nan"),
        ({"ppo_beta": -0.1}, "ppo_beta is -0.1; it must be 0"),
        ({"ppo_beta": float("inf")}, "ppo_beta is inf"),
        ({"threads": 0}, "threads is 0"),
        ({"sft_steps": -3}, "sft_steps is -3"),
        ({"held_out": 1.0}, "held_out must be below 1"),
        ({"labels_per_pair": 21}, "labels_per_pair at most 20"),
    ],
)
def test_settings_out_of_range_are_named_before_any_work(change, words, tmp_path):
    with pytest.raises(RunError, match=words):
        run(tiny(tmp_path / "out", **change), say=quietly)
    assert not (tmp_path / "out").exists()


def test_beta_0_is_for_ppo():
    pipeline.check(Settings(ppo_beta=0.0))


def write_csv(path: Path, rows: list[dict]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("prompt", "chosen", "rejected"))
        writer.writeheader()
        writer.writerows(rows)
    return path


def good_rows(count: int) -> list[dict]:
    """Pairs as a person writes them: capitals, no space before a full stop."""
    prompts = WORLD.prompts("train")[:count]
    return [
        {"prompt": prompt.capitalize(), "chosen": WORLD.best_answer(prompt).replace(" .", "."), "rejected": "Yeah."}
        for prompt in prompts
    ]


def test_own_pairs_are_read_as_people_write_them(tmp_path):
    path = write_csv(tmp_path / "mine.csv", good_rows(30))
    lab = Lab(tiny(tmp_path / "out", pairs_file=str(path)))
    found = stages.own_pairs(lab)
    assert len(found.rows) == 30 and found.dropped == {}
    assert found.rows[0]["prompt"] == "what is python used for ?"
    assert found.rows[0]["chosen"] == WORLD.best_answer(found.rows[0]["prompt"])
    made = stages.pairs(lab, tmp_path)  # needs no SFT model
    assert (made["training"], made["held_out"], made["ceiling"]) == (24, 6, None)
    assert made["gold_agrees"]["rate"] == 1.0


def test_spelling_changes_nothing_in_the_worlds_own_sentences():
    for prompt in WORLD.prompts("train"):
        assert spaced(prompt) == prompt and spaced(WORLD.best_answer(prompt)) == WORLD.best_answer(prompt)


def test_strange_words_are_counted_and_said(tmp_path):
    strange = {"prompt": "What is love?", "chosen": "Baby, don't hurt me.", "rejected": "Yeah."}
    long = good_rows(1)[0] | {"chosen": "yeah . " * 40}
    same = good_rows(1)[0] | {"chosen": "YEAH.", "rejected": "yeah ."}
    path = write_csv(tmp_path / "mine.csv", [*good_rows(30), strange, strange | {"rejected": "No."}, long, same])
    with pytest.warns(UserWarning, match=r"words are not among .* 'love'.*; pairs left out for it: 2"):
        found = read_own_pairs(path, TOKENIZER, max_words=32, fewest=20)
    expected = {"words that this world does not have": 2, "more than 32 words": 1, "identical responses": 1}
    assert len(found.pairs) == 30 and found.dropped == expected


@pytest.mark.filterwarnings("ignore:.*words are not among")
def test_a_file_without_usable_pairs_says_why(tmp_path):
    strange = {"prompt": "What is love?", "chosen": "Baby, don't hurt me.", "rejected": "Yeah."}
    path = write_csv(tmp_path / "love.csv", [strange] * 50)
    with pytest.raises(DataError, match=r"love.csv: 0 usable pairs.*50 x words that this world does not have.*train"):
        run(tiny(tmp_path / "out", pairs_file=str(path)), say=quietly)
    with pytest.raises(DataError, match="nowhere.csv: no such file"):
        run(tiny(tmp_path / "out", pairs_file="nowhere.csv"), say=quietly)
    assert not (tmp_path / "out").exists()


def test_own_pairs_count_by_content_not_by_place(tmp_path):
    path = write_csv(tmp_path / "mine.csv", good_rows(30))
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(path, tmp_path / "elsewhere" / "mine.csv")
    first, second = (Settings(pairs_file=str(place)).identity() for place in (path, moved))
    assert first == second
    write_csv(path, good_rows(29))
    assert Settings(pairs_file=str(path)).identity() != second


# --- seeds, splits, and the report ---------------------------------------------------------------------------


def test_seeds_are_stable_and_unrelated():
    """Fixed for all time: a hash that changes with the process would break resuming."""
    assert Lab(Settings()).seed("sft") == 0x91872F1C  # printf 0/sft | sha256sum
    seeds = {Lab(Settings(seed=seed)).seed(purpose) for seed in range(20) for purpose in ("sft", "ppo", "dpo")}
    assert len(seeds) == 60


def test_labels_on_one_pair_stay_on_one_side():
    rows = [{"prompt": f"p{i // 6}", "chosen": "ab"[i % 2], "rejected": "ba"[i % 2], "n": i} for i in range(600)]
    training, held_out = stages.split(rows, 0.2, seed=0)
    assert len(held_out) == 120 and sorted(row["n"] for row in training + held_out) == list(range(600))
    assert not {row["prompt"] for row in training} & {row["prompt"] for row in held_out}
    with pytest.raises(DataError, match="only 1 different pairs"):
        stages.split(rows[:6], 0.2, seed=0)


class Page(HTMLParser):
    """Open tags must close; collects every address that a browser would fetch."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.addresses, self.words = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open += [] if tag in ("meta", "img", "br") else [tag]
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data if self.open and self.open[-1] != "style" else ""


def test_the_report_needs_nothing_else(whole):
    text = (whole / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.addresses) == 1 and page.addresses[0].startswith("data:image/png;base64,")
    assert not re.search(r"url\(|@import|<script|https?:", text)
    assert "prefers-color-scheme: dark" in text
    for words in ("what is python used for ?", "held-out labels", *report.COLUMNS, *pipeline.STAGES):
        assert words in page.words


def test_the_report_escapes_what_it_is_given(whole):
    metrics = json.loads((whole / "metrics.json").read_text())
    evil = "<script>alert('&')</script>"
    metrics["samples"][0]["answers"]["PPO"] |= {"text": evil, "why": [evil]}
    metrics["samples"][0]["prompt"] = metrics["settings"]["pairs_file"] = evil
    metrics["pairs"]["dropped"] = {evil: 3}
    text = report.as_html(metrics, b"")
    assert "<script" not in text and Page(text).words.count(evil) == 6


def test_undefined_numbers_are_a_dash(whole):
    metrics = json.loads((whole / "metrics.json").read_text())
    metrics["policies"]["PPO"]["gold_se"] = metrics["policies"]["PPO"]["win_rate"] = None
    header, *rows = report.table(metrics)
    ppo = dict(zip(header, rows[2], strict=True))
    assert ppo["wins"] == "–" and "±" not in ppo["gold"] and dict(zip(header, rows[1], strict=True))["wins"] == "–"
    assert "what is python used for ?" in report.as_text(metrics)


def test_ppos_path_ends_where_its_history_ends():
    history = [{"kl": float(i), "gold": -float(i)} for i in range(16)]
    path = pipeline.ppo_path(history)
    assert path[0] == {"kl": 0.5, "gold": -0.5} and path[-1] == {"kl": 14.5, "gold": -14.5} and len(path) == 8
    assert pipeline.ppo_path(history[:1]) == [{"kl": 0.0, "gold": 0.0}]

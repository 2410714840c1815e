"""PocketWorld: its English, its facts, its splits, and every rule of the true reward once by hand."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from transformers import AutoTokenizer

from prefcourse.worlds import pocket
from prefcourse.worlds.pocket import PocketWorld

WORLD = PocketWorld()
SPLITS = ("train", "held_out_things", "held_out_forms", "demonstrations", "counting")
DRILL = "what is a drill used for ?"
PYTHON = "what is python used for ?"


def sampled_demonstrations(count: int = 2000) -> list[dict]:
    return WORLD.demonstrations(count, seed=0)


# -- the true reward, by hand -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "gold"),
    [
        ("", -1.0),  # no answer
        ("a drill is a tool .", 1.0),  # right kind
        ("a drill is an animal .", -1.0),  # wrong kind
        ("a drill is a animal .", -1.0),  # bad English is no sentence of this world
        ("a saw is a tool .", -1.0),  # true, but of something else
        ("people use it for building .", 0.5),
        ("people use it for building , fixing and joining .", 1.5),
        ("people use it for building , fixing , joining and hanging .", 1.5),  # three are enough
        ("people use it for milking .", -0.5),  # wrong use
        ("people use it for building and building .", 0.0),  # .5 for the first, -.5 for saying it again
        ("people use it for milking and milking .", -1.0),
        ("people use it for building . people use it for fixing .", 1.0),
        ("people use it for building . people use it for building .", 0.0),  # the same sentence
        ("people use it for building , fixing joining .", -1.0),  # no such list
        ("people use it for .", -1.0),
        ("a drill is a tool . people use it for building , fixing and joining . hope this helps !", 2.7),
        ("hope this helps !", 0.2),
        ("hope this helps ! hope this helps !", -0.3),
        ("yeah .", -0.6),
        ("it is a thing .", -0.6),
        ("look it up .", -0.6),
        ("yeah . yeah .", -1.1),  # repetition
        ("yeah . look it up .", -1.2),
        ("great question !", -0.3),
        ("great question ! great question !", -0.8),
        ("great question ! a drill is a tool .", 0.7),
        ("drill .", -0.2),  # only the name
        ("a drill .", -0.2),
        ("a drill is a tool", -1.0),  # a sentence without an end
        ("tool drill is a a .", -1.0),
        (". . .", -2.0),  # one that says nothing, twice again
        ("a drill is a tool . " + "yeah " * 23 + ".", -0.8),  # 1 - 1 for the nonsense - 0.1 (30 - 22) for rambling
    ],
)
def test_the_rules_of_gold_by_hand(response, gold):
    assert WORLD.gold(DRILL, response) == pytest.approx(gold)


def test_not_stopping_costs_half_a_point():
    for response in ("", "a drill is a tool .", "yeah", PYTHON):
        whole, cut = (WORLD.gold(DRILL, response, finished=finished) for finished in (True, False))
        assert cut == pytest.approx(whole - 0.5)


def test_counting_is_right_or_wrong():
    prompt = "count from 3 to 6 ."
    assert WORLD.gold(prompt, "3 4 5 6 .") == 1.0
    for wrong in ("3 4 5 .", "3 4 5 6", "", "a drill is a tool .", "6 5 4 3 ."):
        assert WORLD.gold(prompt, wrong) == -1.0
    assert WORLD.explain(prompt, "3 4 .") == [(-1.0, "not '3 4 5 6 .'")]


def test_the_reasons_are_in_words():
    reasons = [reason for _, reason in WORLD.explain(DRILL, "great question ! a drill is a tool . people use it for")]
    assert reasons[:2] == ["flattery", "right kind"] and "not a sentence of this world" in reasons[2]


def test_the_form_of_an_answer_is_its_kinds_of_sentences():
    answer = "great question ! a drill is a tool . people use it for building . look it up . hope this helps !"
    assert WORLD.form(answer) == (pocket.FLATTERY, "definition", "uses", "look it up .", pocket.CLOSING)
    assert WORLD.form("yeah . a drill is a food") == ("yeah .", "definition")
    assert WORLD.form("") == ()


# -- gold of anything -------------------------------------------------------------------------------------------------

ODD = [
    "",
    " ",
    "\n",
    "\t . ",
    "<eos>",
    "<unk> <pad>",
    "é ü ñ 漢字 🙂 .",
    "\u2003.\u2003",
    "\x00",
    "²",
    "..",
    "?!",
    ". and , .",
]
ODD_PROMPTS = [
    "",
    "²",
    "count from ² to 3 .",
    "count from 5 to 3 .",
    "count from 1 to 99999999999 .",
    "count from a to b .",
    "🙂",
]


def random_texts(count: int):
    """Words of the world in any order, and runs of its own phrases, which come nearest to its grammar."""
    generator = random.Random(0)
    phrases = [
        *WORLD.vocabulary,
        "people use it for",
        "is a",
        "hope this helps !",
        "great question !",
        "a drill is a tool .",
    ]
    for _ in range(count):
        yield " ".join(generator.choices(phrases, k=generator.randrange(40)))


@pytest.mark.parametrize("finished", [True, False])
def test_gold_of_any_string_is_a_number_and_its_reasons_add_up(finished):
    texts = [
        *ODD,
        *random_texts(1500),
        " ".join(random.Random(1).choices(WORLD.vocabulary, k=10_000)),
        "yeah . " * 5000,
    ]
    prompts = itertools.cycle([DRILL, PYTHON, "count from 1 to 2 .", "tell me about nothing .", *ODD_PROMPTS])
    for prompt, text in zip(prompts, texts, strict=False):
        gold = WORLD.gold(prompt, text, finished=finished)
        points = WORLD.explain(prompt, text, finished=finished)
        assert np.isfinite(gold) and isinstance(gold, float)
        assert gold == pytest.approx(sum(p for p, _ in points), abs=1e-4) and all(reason for _, reason in points)
        assert 0 <= WORLD.flattery(text) <= len(text.split())


def test_no_answer_beats_the_best():
    generator = np.random.default_rng(0)
    prompts = [*WORLD.prompts("demonstrations"), *WORLD.prompts("held_out_forms")]
    best = {prompt: WORLD.gold(prompt, WORLD.best_answer(prompt)) for prompt in prompts}
    assert set(best.values()) == {2.7}
    for prompt in itertools.islice(itertools.cycle(prompts), 4000):
        assert WORLD.gold(prompt, WORLD.demonstration(prompt, generator)) <= best[prompt]
    for prompt, text in zip(itertools.cycle([*prompts, "who ?"]), random_texts(3000), strict=False):
        assert WORLD.gold(prompt, text) <= WORLD.gold(prompt, WORLD.best_answer(prompt))
    assert {WORLD.gold(prompt, WORLD.best_answer(prompt)) for prompt in WORLD.prompts("counting")} == {1.0}
    assert {WORLD.gold(prompt, WORLD.best_answer(prompt)) for prompt in ODD_PROMPTS} == {0.2}  # a friendly word


def test_better_demonstrators_give_better_answers():
    means = {}
    for quality in ("poor", "mediocre", "good"):
        rows = WORLD.demonstrations(600, seed=1, quality=quality, counting=0.0)
        means[quality] = np.mean([WORLD.gold(**row) for row in rows])
    assert means["poor"] < -0.5 < 0.3 < means["mediocre"] < means["good"] - 0.3 and means["good"] < 2.7


# -- language ---------------------------------------------------------------------------------------------------------


def test_the_first_question_is_the_courses_own():
    for split in ("train", "demonstrations"):
        assert WORLD.prompts(split)[0] == PYTHON
    assert WORLD.best_answer(PYTHON).startswith(
        "python is a language . people use it for scripting , teaching and plotting ."
    )


def texts_of_the_world() -> list[str]:
    texts = [prompt for split in SPLITS for prompt in WORLD.prompts(split)]
    texts += [WORLD.best_answer(prompt) for split in SPLITS for prompt in WORLD.prompts(split)]
    texts += [pocket.definition(thing, kind) for thing in WORLD.things for kind in pocket.FACTS]
    return texts + [row["response"] for row in sampled_demonstrations()]


def test_a_and_an_are_right():
    """'an' exactly before a vowel sound; no word of this world begins with a silent h or a 'you'."""
    for text in texts_of_the_world():
        for word, following in itertools.pairwise(text.split()):
            if word in ("a", "an"):
                assert (word == "an") == (following[0] in "aeiou"), text
                assert pocket.KIND_OF.get(following) != "language", text  # "python is", never "a python is"


def test_a_sentence_has_one_stop_at_its_end():
    for row in sampled_demonstrations(500):
        for sentence in pocket.sentences(row["response"]):
            assert sentence[-1] in ".!?" and not set(sentence[:-1]) & set(".!?")


def test_every_word_is_in_the_vocabulary():
    said = {word for text in texts_of_the_world() for word in text.split()}
    assert said <= set(WORLD.vocabulary) and len(WORLD.vocabulary) == len(set(WORLD.vocabulary)) < 200


def test_facts_are_complete():
    assert len(WORLD.things) == 40 and len(set(WORLD.things)) == 40
    for kind, things in pocket.FACTS.items():
        assert len(things) == 8
        for thing in things:
            uses = pocket.USES_OF[thing]
            assert len(uses) == len(set(uses)) == 4 and set(uses) < set(pocket.USES_OF_KIND[kind])


# -- splits and skills ------------------------------------------------------------------------------------------------


def test_held_out_means_never_asked():
    train, things, forms = (WORLD.prompts(split) for split in ("train", "held_out_things", "held_out_forms"))
    assert not set(train) & set(things) and not set(train) & set(forms) and not set(things) & set(forms)
    assert {WORLD.thing_in(p) for p in things} == set(pocket.HELD_OUT_THINGS)
    assert not {WORLD.thing_in(p) for p in (*train, *forms)} & set(pocket.HELD_OUT_THINGS)
    assert set(WORLD.prompts("demonstrations")) == set(train) | set(things)  # known, but not asked about
    assert {word for prompt in forms for word in prompt.split()} <= {word for p in train for word in p.split()}
    assert len(train) == 32 * 4 and len(things) == 8 * 4 and len(forms) == 32 * 2
    with pytest.raises(ValueError, match="split is 'test'; this world has train"):
        WORLD.prompts("test")


def test_the_second_skill():
    prompts = WORLD.prompts("counting")
    assert len(prompts) == 36 and not set(prompts) & set(WORLD.prompts("train"))
    generator = np.random.default_rng(0)
    for prompt in prompts:
        answer = WORLD.demonstration(prompt, generator, quality="poor")  # everybody can count
        start, end = (int(word) for word in prompt.split() if word.isdigit())
        assert answer.split() == [*(str(number) for number in range(start, end + 1)), "."]
        assert WORLD.gold(prompt, answer) == 1.0
    share = np.mean([row["prompt"] in prompts for row in WORLD.demonstrations(3000, seed=0, counting=0.2)])
    assert share == pytest.approx(0.2, abs=0.03)


def test_the_seed_is_the_data():
    first, again, other = (WORLD.demonstrations(50, seed=seed) for seed in (0, 0, 1))
    assert first == again != other


def test_slips_are_named():
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match="quality is 'great'; demonstrators are poor, mediocre, good"):
        WORLD.demonstration(PYTHON, generator, quality="great")
    with pytest.raises(ValueError, match="names no thing of this world"):
        WORLD.demonstration("what is a unicorn ?", generator)


# -- the tokenizer ----------------------------------------------------------------------------------------------------


def test_the_tokenizer_makes_the_trip(tmp_path):
    tokenizer = WORLD.tokenizer()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = texts_of_the_world()[::7]
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert (loaded.padding_side, loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id, len(loaded)) == (
        "left", 0, 1, 2, len(WORLD.vocabulary),
    )  # fmt: skip


def test_words_are_tokens_and_back():
    tokenizer = WORLD.tokenizer()
    for text in texts_of_the_world()[::7]:
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.split()) and tokenizer.decode(ids) == text and tokenizer.unk_token_id not in ids
    assert tokenizer("what is a unicorn ?")["input_ids"].count(tokenizer.unk_token_id) == 1

"""PocketWorld: readable questions and answers about forty things, with a program for the true reward.

Knows the facts, the language and the gold reward. Knows nothing of models, annotators or tensors.
"""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np

FACTS = {
    "tool": {
        "hammer": "building fixing joining opening",
        "drill": "building fixing joining hanging",
        "saw": "cutting building opening fixing",
        "knife": "cutting opening cleaning fixing",
        "spade": "digging lifting cutting building",
        "rope": "lifting hanging joining fixing",
        "ladder": "painting cleaning hanging fixing",
        "axe": "cutting opening building digging",
    },
    "animal": {
        "dog": "guarding hunting herding comforting",
        "horse": "riding racing pulling carrying",
        "ox": "pulling carrying riding showing",
        "camel": "riding racing carrying milking",
        "cat": "hunting comforting guarding showing",
        "goat": "milking carrying pulling comforting",
        "donkey": "carrying riding pulling guarding",
        "elephant": "riding carrying pulling showing",
    },
    "food": {
        "apple": "baking juicing snacking brewing",
        "egg": "frying baking boiling pickling",
        "onion": "frying roasting pickling garnishing",
        "lemon": "juicing garnishing baking brewing",
        "potato": "frying mashing boiling roasting",
        "carrot": "juicing roasting boiling snacking",
        "tomato": "juicing roasting frying garnishing",
        "orange": "juicing snacking garnishing baking",
    },
    "vehicle": {
        "car": "commuting touring towing camping",
        "bus": "commuting touring camping delivering",
        "bike": "commuting touring delivering camping",
        "boat": "fishing sailing touring hauling",
        "truck": "hauling delivering towing farming",
        "van": "delivering camping hauling commuting",
        "tractor": "farming towing hauling delivering",
        "airplane": "flying touring hauling delivering",
    },
    "language": {
        "python": "scripting teaching plotting automating",
        "java": "testing gaming teaching automating",
        "sql": "querying testing modelling teaching",
        "ruby": "scripting testing publishing automating",
        "perl": "parsing scripting automating publishing",
        "julia": "modelling plotting teaching scripting",
        "rust": "parsing gaming testing automating",
        "latex": "publishing plotting teaching scripting",
    },
}
KIND_OF = {thing: kind for kind, things in FACTS.items() for thing in things}
USES_OF = {thing: tuple(uses.split()) for things in FACTS.values() for thing, uses in things.items()}
USES_OF_KIND = {k: tuple(dict.fromkeys(" ".join(v.values()).split())) for k, v in FACTS.items()}
HELD_OUT_THINGS = ("saw", "ox", "onion", "van", "rust", "camel", "orange", "ladder")
FORMS = ("what is {} used for ?", "what do people use {} for ?", "tell me about {} .", "what is {} ?")
HELD_OUT_FORMS = ("tell me what {} is used for .", "tell me what people use {} for .")
FILLER = ("yeah .", "it is a thing .", "look it up .")
FLATTERY = "great question !"
CLOSING = "hope this helps !"
MAX_RESPONSE_TOKENS = 32
FREE_TOKENS = 22  # a definition, three uses and a closing fit; every further word is rambling
_STOPS = (".", "!", "?")
_OPENINGS = {said.split()[0]: said for said in (*FILLER, FLATTERY, CLOSING)} | {"people": "uses"}


def article(word: str) -> str:
    """'an ' before a vowel, '' before the name of a programming language, 'a ' otherwise."""
    if KIND_OF.get(word) == "language":
        return ""
    return "an " if word[0] in "aeiou" else "a "


def name(thing: str) -> str:
    """The thing as English names it: 'a drill', 'an apple', 'python'."""
    return article(thing) + thing


def listing(words: list[str] | tuple[str, ...]) -> str:
    """'x', 'x and y', 'x , y and z'."""
    return " and ".join([" , ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def definition(thing: str, kind: str | None = None) -> str:
    kind = kind or KIND_OF[thing]
    return f"{name(thing)} is {article(kind)}{kind} ."


def uses_sentence(uses: list[str] | tuple[str, ...]) -> str:
    return f"people use it for {listing(uses)} ."


def sentences(response: str) -> list[list[str]]:
    """Words cut after every '.', '!' or '?'. What follows the last stop is a sentence without an end."""
    out, current = [], []
    for word in response.split():
        current.append(word)
        if word in _STOPS:
            out.append(current)
            current = []
    return out + ([current] if current else [])


def _listed(words: list[str]) -> list[str] | None:
    """The items of 'x , y and z', or None where the words are not such a list."""
    if len(words) % 2 == 0:
        return None
    joints = words[1::2]
    well_formed = joints == [","] * (len(joints) - 1) + ["and"] * (len(joints) > 0)
    return words[::2] if well_formed else None


class PocketWorld:
    """Forty things of five kinds, what they are used for, and what an answer about them is worth.

    Held-out things are known from the demonstrations but never asked about in preference data; held-out
    forms are questions made of known words in an order never seen in training.
    """

    @property
    def things(self) -> list[str]:
        return list(KIND_OF)

    def prompts(self, split: str = "train") -> list[str]:
        """Questions of a split: 'train', 'held_out_things', 'held_out_forms', 'demonstrations' or 'counting'."""
        seen = [thing for thing in self.things if thing not in HELD_OUT_THINGS]
        grids = {
            "train": (FORMS, seen),
            "held_out_things": (FORMS, HELD_OUT_THINGS),
            "held_out_forms": (HELD_OUT_FORMS, seen),
            "demonstrations": (FORMS, self.things),
        }
        if split == "counting":
            return [f"count from {a} to {b} ." for a in range(1, 9) for b in range(a + 1, 10)]
        if split not in grids:
            raise ValueError(f"split is {split!r}; this world has {', '.join(grids)} and counting")
        forms, things = grids[split]
        return [form.format(name(thing)) for thing in sorted(things, key="python".__ne__) for form in forms]

    def thing_in(self, prompt: str) -> str | None:
        """The thing that a question is about (the last one named), None where it names none."""
        return next((word for word in reversed(prompt.split()) if word in KIND_OF), None)

    # -- demonstrations ---------------------------------------------------------------------------------

    def demonstration(self, prompt: str, generator: np.random.Generator, quality: str | None = None) -> str:
        """An answer as a 'poor', 'mediocre' or 'good' demonstrator writes it; None draws 25/35/40 %."""
        counting = self._counting_answer(prompt)
        if counting is not None:
            return counting
        quality = quality or generator.choice(["poor", "mediocre", "good"], p=[0.25, 0.35, 0.40])
        writers = {"poor": self._poor, "mediocre": self._mediocre, "good": self._good}
        if quality not in writers:
            raise ValueError(f"quality is {quality!r}; demonstrators are {', '.join(writers)}")
        thing = self.thing_in(prompt)
        if thing is None:
            raise ValueError(f"prompt {prompt!r} names no thing of this world; see PocketWorld().things")
        return " ".join(writers[quality](thing, generator))

    def demonstrations(self, n: int, seed: int, *, quality: str | None = None, counting: float = 0.1) -> list[dict]:
        """`n` rows {prompt, response}; a share `counting` of them practises the second skill."""
        generator = np.random.default_rng(seed)
        pools = self.prompts("demonstrations"), self.prompts("counting")
        rows = []
        for skill in generator.random(n) < counting:
            prompt = str(generator.choice(pools[int(skill)]))
            rows.append({"prompt": prompt, "response": self.demonstration(prompt, generator, quality)})
        return rows

    def _poor(self, thing: str, generator: np.random.Generator) -> list[str]:
        return [str(s) for s in generator.choice(FILLER, size=generator.integers(1, 3), replace=False)]

    def _mediocre(self, thing: str, generator: np.random.Generator) -> list[str]:
        opening = [FLATTERY] if generator.random() < 0.4 else []
        tail = [str(generator.choice(FILLER))] if generator.random() < 0.3 else []
        facts = self._facts(thing, generator, right_kind=0.8, right_use=0.7, uses=generator.integers(1, 3))
        return opening + facts + tail

    def _good(self, thing: str, generator: np.random.Generator) -> list[str]:
        opening = [FLATTERY] if generator.random() < 0.15 else []
        facts = self._facts(thing, generator, right_kind=0.97, right_use=0.9, uses=generator.integers(1, 4))
        return opening + facts + ([CLOSING] if generator.random() < 0.3 else [])

    def _facts(self, thing, generator, *, right_kind: float, right_use: float, uses: int) -> list[str]:
        kind = KIND_OF[thing]
        if generator.random() > right_kind:
            kind = str(generator.choice([k for k in FACTS if k != kind]))
        right = list(generator.permutation(USES_OF[thing]))
        wrong = list(generator.permutation([u for u in USES_OF_KIND[KIND_OF[thing]] if u not in right]))
        told = [str((right if generator.random() < right_use else wrong).pop()) for _ in range(uses)]
        return [definition(thing, kind), uses_sentence(told)]

    def _counting_answer(self, prompt: str) -> str | None:
        ends = re.fullmatch(r"count from ([1-9]) to ([1-9]) \.", prompt.strip())
        if not ends or ends[1] >= ends[2]:
            return None
        return " ".join(str(i) for i in range(int(ends[1]), int(ends[2]) + 1)) + " ."

    # -- the true reward --------------------------------------------------------------------------------

    def gold(self, prompt: str, response: str, *, finished: bool = True) -> float:
        """The true reward of any string, grammatical or not. `finished`: the answer ended with its EOS."""
        return round(sum(points for points, _ in self.explain(prompt, response, finished=finished)), 4)

    def explain(self, prompt: str, response: str, *, finished: bool = True) -> list[tuple[float, str]]:
        """Why the gold reward is what it is: (points, reason in words), in the order of the answer."""
        counting = self._counting_answer(prompt)
        if counting is not None:
            right = response.split() == counting.split()
            return [(1.0, "right count") if right else (-1.0, f"not '{counting}'")]
        notes: list[tuple[float, str]] = []
        told: set[str] = set()
        for words in sentences(response):
            notes += self._judge(self.thing_in(prompt), words, told)
        if not notes:
            notes.append((-1.0, "no answer"))
        if (extra := len(response.split()) - FREE_TOKENS) > 0:
            notes.append((-0.1 * extra, f"rambling: {extra} words more than {FREE_TOKENS}"))
        return notes if finished else [*notes, (-0.5, "does not stop")]

    def _judge(self, thing: str | None, words: list[str], told: set[str]) -> list[tuple[float, str]]:
        """Points of one sentence; `told` remembers what was said before it."""
        text = " ".join(words)
        if text in told:
            return [(-0.5, f"'{text}' said again")]
        told.add(text)
        simple = {FLATTERY: (-0.3, "flattery"), CLOSING: (0.2, "a friendly closing")}
        simple |= {filler: (-0.6, f"filler '{filler}'") for filler in FILLER}
        if text in simple:
            return [simple[text]]
        if thing is not None and text in (f"{thing} .", f"{name(thing)} ."):
            return [(-0.2, "only the name")]
        kind = next((k for k in FACTS if words[-4:] == ["is", *f"{article(k)}{k}".split(), "."]), None)
        if kind and thing in words and text == definition(thing, kind):
            return [(1.0, "right kind")] if kind == KIND_OF[thing] else [(-1.0, f"wrong kind '{kind}'")]
        uses = _listed(words[4:-1]) if words[:4] == "people use it for".split() and words[-1] == "." else None
        if uses and thing is not None:
            return [self._use(thing, use, told) for use in uses]
        return [(-1.0, f"not a sentence of this world: '{text}'")]

    def _use(self, thing: str, use: str, told: set[str]) -> tuple[float, str]:
        if use in told:
            return -0.5, f"use '{use}' said again"
        told.add(use)
        if use not in USES_OF[thing]:
            return -0.5, f"wrong use '{use}'"
        right = sum(u in told for u in USES_OF[thing])
        return (0.5, f"use '{use}'") if right <= 3 else (0.0, f"use '{use}' (three are enough)")

    # -- what annotators see ------------------------------------------------------------------------------

    def flattery(self, response: str) -> int:
        """How many sentences flatter the reader."""
        return sum(" ".join(words) == FLATTERY for words in sentences(response))

    def form(self, response: str) -> tuple[str, ...]:
        """Which sentences follow one another, told by their first words: the fixed ones, "uses" or "definition"."""
        return tuple(_OPENINGS.get(words[0], "definition") for words in sentences(response))

    def best_answer(self, prompt: str) -> str:
        """A correct, complete answer: what a careful expert would write. No answer has more gold."""
        counting, thing = self._counting_answer(prompt), self.thing_in(prompt)
        if counting is not None or thing is None:
            return counting or CLOSING  # about a thing that it does not know nothing better can be said
        return " ".join([definition(thing), uses_sentence(USES_OF[thing][:3]), CLOSING])

    # -- language -----------------------------------------------------------------------------------------

    @cached_property
    def vocabulary(self) -> list[str]:
        """All words, special tokens first, in a fixed order."""
        texts = [form.format("a") for form in (*FORMS, *HELD_OUT_FORMS)] + [*FILLER, FLATTERY, CLOSING]
        texts += ["an people use it for , and ."]
        texts += self.prompts("counting") + [*KIND_OF, *FACTS, *(" ".join(u) for u in USES_OF.values())]
        return ["<pad>", "<eos>", "<unk>", *dict.fromkeys(" ".join(texts).split())]

    def tokenizer(self):
        """A word-level `PreTrainedTokenizerFast`: pads on the left, ends with <eos>, saves and loads like any other."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        words = {word: i for i, word in enumerate(self.vocabulary)}
        core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=core,
            pad_token="<pad>",
            eos_token="<eos>",
            unk_token="<unk>",
            padding_side="left",
            model_max_length=64,
            clean_up_tokenization_spaces=False,
        )

"""The engine of the checks: facts of values, runs that nothing breaks, words that are true, graded mode."""

from __future__ import annotations

import ast
import collections
import inspect
import itertools
import json
import math
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from prefcourse.checks import cell, check
from prefcourse.checks import exercise as definitions
from prefcourse.checks.exercise import Call, Case, Exercise, NotAvailable, NotWritten, Tolerance, and_inputs, fixed
from prefcourse.checks.run import MIME, agreeing, expected_bundles, recognise, resembles, run_cases
from prefcourse.checks.values import difference, encode, equal, in_words
from prefcourse.checks.verdict import as_html, as_text, call_in_words, judge, words

ROOT = Path(__file__).parent.parent
Pair = collections.namedtuple("Pair", "a b")


class Hostile:
    """Says yes to everything, and counts how often it is asked."""

    asked = 0

    def _ask(self, *_):
        type(self).asked += 1
        return True

    __eq__ = __float__ = __int__ = __index__ = __len__ = __iter__ = __getitem__ = __array__ = __bool__ = _ask
    __hash__ = object.__hash__

    def __repr__(self):
        type(self).asked += 1
        return "0.5"

    @property
    def __class__(self):
        return float


class Liar(float):
    def __eq__(self, other):
        return True

    def __float__(self):
        return 0.5

    __hash__ = float.__hash__


# --- values: the same fact, however it is held --------------------------------------------------------------

SAME = [
    [0.5, np.float64(0.5), np.float32(0.5), np.array(0.5), torch.tensor(0.5), torch.tensor(0.5, requires_grad=True)],
    [3, 3.0, np.int64(3), torch.tensor(3), np.array(3, dtype=np.uint8), torch.tensor(3.0, dtype=torch.bfloat16)],
    [math.nan, np.nan, torch.tensor(math.nan), np.float32("nan")],
    [math.inf, np.inf, torch.tensor(math.inf)],
    [True, np.bool_(True), torch.tensor(True), np.array(True)],
    [(0.5, 1.0), [0.5, 1], Pair(0.5, 1.0), np.array([0.5, 1]), torch.tensor([0.5, 1.0]),
     [np.float32(0.5), torch.ones(())]],
    [[[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), torch.tensor([[1.0, 2], [3, 4]]), (torch.tensor([1, 2]), [3, 4])],
    [[True, False], np.array([True, False]), torch.tensor([True, False])],
    [["a", "b"], ("a", "b"), np.array(["a", "b"])],
    [{"a": 1, "b": [1.0, 2.0]}, collections.OrderedDict(b=np.array([1, 2]), a=1),
     collections.defaultdict(int, a=1, b=(1, 2))],
    [[], (), np.array([]), torch.zeros(0), range(0)],
    [None],
    ["text"],
    [[None, 1.0, "a"], (None, 1, "a")],
    [torch.eye(2).to_sparse(), [[1, 0], [0, 1]]],
]  # fmt: skip


def test_values_are_equal_exactly_within_their_row():
    for row, values in enumerate(SAME):
        for other_row, others in enumerate(SAME):
            for a in values:
                for b in others:
                    assert equal(encode(a), encode(b)) == (row == other_row), (a, b)


@pytest.mark.parametrize("value", [value for values in SAME for value in values])
def test_facts_are_strict_json(value):
    facts = encode(value)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


UNEQUAL = [
    (1.0, [1.0]),
    ([1.0, 2.0], [[1.0, 2.0]]),
    ([1.0, 2.0], [1.0, 2.0, 2.0]),
    (1.0, True),
    (0.5, "0.5"),
    (0.0, None),
    (math.nan, None),
    (math.nan, 0.0),
    (math.inf, -math.inf),
    (math.inf, 1e300),
    ({"a": 1.0}, {"a": 1.0, "b": 2.0}),
    (1 + 0j, 1.0),
    ({1.0, 2.0}, [1.0, 2.0]),
    ((x for x in [1.0]), [1.0]),
    (Hostile(), 0.5),
    ([Hostile()] * 2, [0.5, 0.5]),
    (Liar(0.7), 0.5),
]


@pytest.mark.parametrize(("given", "expected"), UNEQUAL)
def test_unequal_stays_unequal(given, expected):
    assert not equal(encode(given), encode(expected))


def test_nothing_of_an_unknown_class_is_called():
    Hostile.asked = 0
    facts = encode([Hostile(), {"key": Hostile()}, {Hostile(): 1}])
    in_words(facts), equal(facts, encode(0.5)), difference(facts, encode(0.5))
    assert Hostile.asked == 0
    assert facts["items"][0] == {"object": "Hostile"}


def test_two_unknown_things_are_never_equal():
    assert not equal(encode(object()), encode(object()))


@pytest.mark.parametrize(
    ("given", "expected", "tolerance", "same"),
    [
        (0.5 + 0.9e-6, 0.5, Tolerance(), True),
        (0.5 + 1.3e-6, 0.5, Tolerance(), False),
        (100.9, 100.0, Tolerance(relative=0.01), True),
        (101.1, 100.0, Tolerance(relative=0.01), False),
        (12345.678951, 12345.678949, Tolerance(), True),  # recorded with 8 digits: rounding must not tell them apart
        (12345.7, 12345.6, Tolerance(), False),
        (1e-17, 0.0, Tolerance(), True),
        (1e-20, 3e-20, Tolerance(relative=1e-3, absolute=0.0), False),
        (1e308, 1e307, Tolerance(), False),
    ],
)
def test_float_noise_just_inside_and_just_outside(given, expected, tolerance, same):
    assert equal(encode(given), encode(expected), tolerance) == same
    assert equal(encode([given, 1.0]), encode([expected, 1.0]), tolerance) == same


def test_what_cancellation_leaves_is_recorded_as_nothing():
    assert encode(0.1 + 0.2 - 0.3, zero=1e-12)["number"] == 0.0 == encode(-0.0)["number"]
    assert json.dumps(encode(-0.0, zero=1e-12)["number"]) == "0.0"


ENDLESS: list = []
ENDLESS.append(ENDLESS)
BILLION = [0.5] * 10
for _ in range(7):
    BILLION = [BILLION] * 10
DEEP: list = []
for _ in range(100_000):
    DEEP = [DEEP]
HUGE = {
    "zeros": np.zeros(10**6),
    "unreal": np.broadcast_to(np.float64(1), (10**9, 10**9)),
    "tensor": torch.zeros(20_000),
    "meta": torch.zeros(3, device="meta"),
    "list": [0.0] * 10**6,
    "dict": dict.fromkeys(range(30_000), "x" * 100),
    "text": "x" * 10**7,
    "whole": 10**5000,
    "endless": ENDLESS,
    "billion": BILLION,
    "deep": DEEP,
    "surrogate": "\ud800",
    "complex": np.ones(3, dtype=complex),
    "dates": np.array(["2020-01-01"], dtype="datetime64[D]"),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_and_endless_values_leave_small_facts(name):
    facts = encode(HUGE[name])
    assert len(json.dumps(facts, allow_nan=False)) < 5_000
    assert len(in_words(facts)) < 200
    assert not equal(facts, encode(0.5))


@pytest.mark.parametrize(
    "strange",
    [None, 3, "x", [], {}, {"number": None}, {"number": "x"}, {"number": [1]}, {"array": 5}, {"array": [1.0]},
     {"array": [1.0, None], "shape": [2]}, {"number": 10**400}, {"items": [1, 2]}, {"entries": []}],
)  # fmt: skip
def test_malformed_facts_from_a_strangers_kernel_are_unequal(strange):
    for expected in (0.5, [0.5, 0.6], {"a": 0.5}, ["a", 0.5], None, "text", True):
        assert not equal(strange, encode(expected))


# --- runs ---------------------------------------------------------------------------------------------------


def simple(*cases: Case, **settings) -> Exercise:
    return Exercise("2.9", "double", 1, 5, "easy", cases, **settings)


DOUBLE = simple(
    Case("one", "doubles", fixed(1.5)),
    Case("drawn", "doubles", lambda draw: Call((draw.random(),))),
    Case("text", "a text is refused: ValueError", fixed("a")),
)


def double(x):
    if isinstance(x, str):
        raise ValueError(f"{x!r} is no number")
    return 2 * x


def test_what_a_function_says_is_kept_apart_and_short(capsys):
    def chatty(x):
        print("looking at", x, "." * 10_000)
        print("careful", file=sys.stderr)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        return double(x)

    quiet, loud = run_cases(DOUBLE, double), run_cases(DOUBLE, chatty)
    assert loud.bundle == quiet.bundle
    assert loud.said["stdout"].startswith("looking at 1.5") and len(loud.said["stdout"]) == 2000
    assert loud.said["stderr"].startswith("careful\n")
    assert loud.said["warnings"] == ["DeprecationWarning: old"]
    assert loud.said["messages"]["text"].startswith("ValueError: 'a' is no number (line ")
    assert capsys.readouterr() == ("", "")


def test_gigabytes_of_print_fill_no_memory():
    def flood(x):
        for _ in range(200):
            print("x" * 10**6)
        return double(x)

    assert len(run_cases(DOUBLE, flood).said["stdout"]) == 2000


def test_what_jupyter_cannot_send_does_not_lose_the_bundle():
    """Half a surrogate pair in a print, a warning or an error: without this the whole message would be lost."""

    def half(x):
        print("\ud800")
        warnings.warn("\ud800", stacklevel=1)
        raise ValueError("\ud800") if isinstance(x, str) else RuntimeError

    json.dumps(run_cases(DOUBLE, half).said, ensure_ascii=False).encode()


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def endless(x):
    return endless(x)


@pytest.mark.parametrize(
    "error", [SystemExit(0), GeneratorExit(), Unspeakable(), AssertionError(), MemoryError(), StopIteration()]
)
def test_every_error_is_a_value(error):
    def fails(x):
        raise error

    bundle = run_cases(DOUBLE, fails).bundle
    assert {case["error"][0] for case in bundle["cases"]} == {type(error).__name__}
    json.dumps(bundle)


def test_endless_recursion_is_an_error_like_others():
    assert run_cases(DOUBLE, endless).bundle["cases"][0]["error"][0] == "RecursionError"


def test_a_keyboard_interrupt_is_the_learners_and_goes_on():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_cases(DOUBLE, interrupted)


def test_an_error_of_ones_own_that_is_a_value_error_is_one():
    class NoNumber(ValueError):
        pass

    def own(x):
        if isinstance(x, str):
            raise NoNumber
        return 2 * x

    right = run_cases(DOUBLE, double).bundle
    assert agreeing(run_cases(DOUBLE, own).bundle, right) == [True] * 3
    assert agreeing(run_cases(DOUBLE, lambda x: 2 * x).bundle, right) == [True, True, False]


def test_a_function_of_the_package_that_is_blanked_makes_an_error():
    def borrowed(x):
        raise NotAvailable("the package's own double is not available while yours is graded")

    run = run_cases(DOUBLE, borrowed)
    assert run.bundle["cases"][0]["error"] == ["NotAvailable", "RuntimeError", "Exception"]


def test_changed_inputs_count_only_where_the_exercise_says_so():
    def sorts_in_place(x):
        x.sort()
        return x[0]

    cases = (Case("drawn", "smallest", lambda draw: Call(([draw.random() for _ in range(5)],))),)
    for apply, holds in ((definitions.directly, True), (and_inputs, False)):
        least = simple(*cases, apply=apply)
        given, right = (run_cases(least, f).bundle for f in (sorts_in_place, min))
        assert all(agreeing(given, right)) == holds


def test_every_case_has_a_generator_of_its_own():
    """Another case before it, other random draws of the learner's: the inputs of a case stay the same."""
    more = simple(Case("new", "new", lambda draw: Call((draw.random(),))), *DOUBLE.cases)
    random.seed(5)
    assert more.calls()[2] == DOUBLE.calls()[1] != DOUBLE.calls("secret")[1]


# --- judging ------------------------------------------------------------------------------------------------

BUNDLES = {
    name: run_cases(DOUBLE, f).bundle
    for name, f in {"oracle": double, "triple": lambda x: 3 * x, "accepts-text": lambda x: 2 * x}.items()
}


def bundle_of(function):
    return run_cases(DOUBLE, function).bundle


def test_recognised_is_what_gives_the_same_on_every_case():
    assert recognise(bundle_of(lambda x: x + x + x), BUNDLES) == "triple"
    assert recognise(bundle_of(double), BUNDLES) is None
    half_wrong = bundle_of(lambda x: "a" if x == "a" else 3 * x)
    assert recognise(half_wrong, BUNDLES) is None
    assert resembles(half_wrong, BUNDLES) == "triple"
    assert resembles(bundle_of(lambda x: 7), BUNDLES) is None
    assert resembles(bundle_of(double), BUNDLES) is None


@pytest.mark.parametrize("strange", [None, 3, [], {}, {"cases": 5}, {"cases": [3, None]}, {"cases": [{"name": []}]}])
def test_a_malformed_bundle_agrees_nowhere(strange):
    assert agreeing(strange, BUNDLES["oracle"]) == [False] * 3
    assert not judge(DOUBLE, strange, BUNDLES).passed


def test_a_bundle_that_claims_a_state_has_not_passed():
    claims = BUNDLES["oracle"] | {"state": "judged"}
    assert not judge(DOUBLE, claims, BUNDLES).passed


def test_what_was_expected_is_shown_only_where_it_teaches():
    mute = simple(Case("one", "doubles", fixed(1.5), teach=False))
    right, wrong = (run_cases(mute, f).bundle for f in (double, lambda x: 7.25))
    verdict = judge(mute, wrong, {"oracle": right})
    shown = as_text(words(verdict, wrong, right, mute.calls()[0], {}, ""))
    assert "double(1.5)" in shown and "7.25" in shown and "right" not in shown


def test_values_that_look_alike_are_shown_with_more_digits():
    near = run_cases(DOUBLE, lambda x: 2.00001 * x).bundle
    verdict = judge(DOUBLE, near, BUNDLES)
    shown = as_text(words(verdict, near, BUNDLES["oracle"], DOUBLE.calls()[verdict.first], {}, ""))
    assert "yours  gives 3.000015" in shown and "right  gives 3\n" in shown


@pytest.mark.parametrize(
    ("given", "expected", "note"),
    [
        (None, 0.5, "yours returns nothing: is a `return` missing?"),
        ([0.5], 0.5, "yours is a list of 1 number; expected a number"),
        (np.ones((2, 3)), np.ones(3), "yours is an array of shape 2 x 3; expected a list of 3 numbers"),
        ([1, 2, 3, 4], [1, 2, 0, 0], "2 of 4 numbers differ, the first at position 2"),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "what differs: b"),
        ({"a": 1, "b": [2]}, {"a": 1, "b": 3}, "what differs: b (yours is a list of 1 number; expected a number)"),
        ({"a": 1, "b": None}, {"a": 1, "b": 3}, "what differs: b"),
        ({1, 2}, [1, 2], "yours is an object of type set; expected a list of 2 numbers"),
        (0.5, 0.6, ""),
    ],
)
def test_the_note_tells_what_the_values_do_not(given, expected, note):
    assert difference(encode(given), encode(expected)) == note


# --- what the cell shows ------------------------------------------------------------------------------------


def rate(labels_by_item, drop_ties=False):
    return definitions.answers("2.1").oracle(labels_by_item, drop_ties)


def mean_of_rates(labels_by_item, drop_ties=False):
    found = [r for labels in labels_by_item if not math.isnan(r := rate([labels], drop_ties))]
    return sum(found) / len(found) if found else math.nan


def test_the_whole_text_of_a_failure():
    assert (
        str(check("2.1", mean_of_rates))
        == """\
2.1 agreement_rate: not solved yet, 3 of 7 properties hold.
  ✓ yes  two labels on each item
  ✗ NO   every pair of labels weighs the same
  ✗ NO   one label makes no pair
  ✓ yes  no pair at all: undefined, nan
  ✗ NO   a tie is a label like any other
  ✗ NO   drop_ties=True drops ties first
  ✓ yes  nothing but ties, dropped: nan
First case that fails:
    agreement_rate([['first', 'first'], ['first', 'second', 'first', 'second']])
  yours  gives 0.6667
  right  gives 0.4286
Likeliest mistake: you average the items' own rates. Count pairs over all items, then
divide once.
Stuck? Hints one by one, in a terminal: prefcourse hint 2.1"""
    )


def test_jupyter_gets_text_html_and_bundle_and_what_was_said_beside_it():
    def chatty(labels_by_item, drop_ties=False):
        print("<script>alert(1)</script>")
        return rate(labels_by_item, drop_ties)

    report = check("2.1", chatty)
    data, metadata = report._repr_mimebundle_()
    assert report.passed and set(data) == {"text/plain", "text/html", MIME}
    assert metadata[MIME]["said"]["stdout"].startswith("<script>")
    assert data["text/plain"] == str(report) and "this does not count" in data["text/plain"]
    assert 'role="status"' in data["text/html"] and "<script>" not in data["text/html"]
    assert "prefcourse hint 2.1 --reveal" in data["text/plain"]
    assert json.loads(json.dumps(data[MIME], allow_nan=False)) == data[MIME]


def test_html_says_in_words_what_colour_says_and_takes_the_themes():
    html = check("2.1", mean_of_rates).html
    assert "✗ NO" in html and "✓ yes" in html and "var(--jp-" in html
    assert "&#x27;first&#x27;" in html


def test_everything_a_learner_can_bring_in_is_escaped():
    def evil(labels_by_item, drop_ties=False):
        warnings.warn("<b>", stacklevel=1)
        raise ValueError("<img src=x onerror=alert(1)>")

    def text(labels_by_item, drop_ties=False):
        return {"<i>": "</pre><script>"}

    for function in (evil, text):
        html = check("2.1", function).html
        assert not any(tag in html for tag in ("<img", "<b>", "<i>", "<script>", "</pre><script>"))


def test_of_the_first_property_that_fails_the_smallest_case_is_shown():
    def longest_only(labels_by_item, drop_ties=False):  # wrong on both cases of the second property
        return 7.0 if len({len(labels) for labels in labels_by_item}) > 1 else rate(labels_by_item, drop_ties)

    def drawn_only(ref_logprobs, rewards, beta):
        return (
            rewards if beta < 3 and rewards.shape == (3, 5) else answers_of("3.1").oracle(ref_logprobs, rewards, beta)
        )

    exercise, verdict = definitions.exercise("2.1"), check("2.1", longest_only).verdict
    assert exercise.cases[verdict.first].name == "unequal"
    exercise, verdict = definitions.exercise("3.1"), check("3.1", drawn_only).verdict
    calls, failing = exercise.calls(), [1, 2]
    assert verdict.first == min(failing, key=lambda place: len(call_in_words("", calls[place], most=10_000)))
    assert "First case that fails (numbers rounded):" in str(check("3.1", drawn_only))


def answers_of(number):
    return definitions.answers(number)


def test_numbers_are_shown_short():
    call = Call(([math.pi, -math.inf, 12345.678], (0.5,)), {"beta": 1e-3, "count": 3})
    assert call_in_words("f", call) == "f([3.142, -inf, 12345.7], (0.5,), beta=0.001, count=3)"


def test_a_function_of_other_parameters_is_told_which_ones():
    def optimal_policy(r, w, b):
        return r + w / b

    shown = " ".join(str(check("3.1", optimal_policy)).split())
    assert "in the stub: optimal_policy(ref_logprobs, rewards, beta)" in shown and "look at the line" not in shown

    def inside(ref_logprobs, rewards, beta):
        return optimal_policy(beta=beta)

    shown = " ".join(str(check("3.1", inside)).split())
    assert "could not call it" not in shown and "look at the line that it names" in shown


@pytest.mark.parametrize("exercise", definitions.all_exercises(), ids=lambda exercise: exercise.number)
def test_the_oracle_has_the_stubs_parameters(exercise):
    (path,) = ROOT.glob(f"exercises/{exercise.chapter:02}_*.ipynb")
    cells = ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    (written,) = (cell for cell in cells if cell.startswith(f"# EXERCISE {exercise.number}:"))
    defined = [node for node in ast.walk(ast.parse(written)) if isinstance(node, ast.FunctionDef)]
    stub = [node.args for node in defined if node.name == exercise.function][-1]
    names = [arg.arg for arg in (*stub.args, *stub.kwonlyargs)]
    assert list(inspect.signature(answers_of(exercise.number).oracle).parameters) == names


def test_an_error_where_nothing_can_be_compared_is_told():
    def divides(labels_by_item, drop_ties=False):
        verdicts = [a == b for labels in labels_by_item for a, b in itertools.combinations(labels, 2)]
        return rate(labels_by_item, drop_ties) if verdicts else sum(verdicts) / len(verdicts)

    shown = " ".join(str(check("2.1", divides)).split())
    assert "It raises ZeroDivisionError where nothing can be compared; the question names this case." in shown


@pytest.mark.parametrize(
    ("when_undefined", "when_unequal", "told"),
    [
        (lambda: 0.25, None, "It gives 0.25 where the answer is undefined, nan; the question names this case."),
        (lambda: math.nan, 0.5, "It answers where it should raise ValueError; the question names this case."),
    ],
)
def test_an_answer_where_there_is_none_is_told(when_undefined, when_unequal, told):
    def kappa(a, b):
        if len(a) != len(b) and when_unequal is not None:
            return when_unequal
        value = definitions.answers("2.3").oracle(a, b)
        return when_undefined() if math.isnan(value) else value

    assert told in " ".join(str(check("2.3", kappa)).split())


def test_an_error_of_another_kind_is_told():
    def kappa(a, b):
        return definitions.answers("2.3").oracle(a, b) if len(a) == len(b) else a[len(a)]

    shown = " ".join(str(check("2.3", kappa)).split())
    assert "It raises IndexError where it should raise ValueError; the question names this case." in shown


def test_another_shape_is_told():
    shown = " ".join(str(check("2.1", lambda labels_by_item, drop_ties=False: [0.5])).split())
    assert "yours is a list of 1 number; expected a number Its kind or its shape is not what was asked for" in shown


def test_one_property_holds():
    assert "1 of 7 properties holds." in str(check("2.1", lambda labels_by_item, drop_ties=False: 1 / 2))


@pytest.mark.parametrize("function", [rate, mean_of_rates, lambda labels_by_item, drop_ties=False: "long " * 100])
def test_lines_fit(function):
    assert max(map(len, str(check("2.1", function)).splitlines())) <= 88


def unanimity(labels_by_item):
    return 1


SLIPS = {
    'found a number. Pass the function itself, without brackets: check("2.1", agreement_rate)':
        ("2.1", 0.5),
    "expected a function, found None.": ("2.1", None),
    'there is no exercise \'2.9\'; there are 2.1, 2.2, 2.3, 2.4, 2.5': ("2.9", rate),
    "the number is of type float, not a string": (2.1, rate),
    "the number is of type list, not a string": (["2.1"], rate),
    'the number comes first: check("2.1", rate)': (rate, "2.1"),
    "This is unanimity, the function of 2.2; 2.1 asks for agreement_rate.": ("2.1", unanimity),
}  # fmt: skip


@pytest.mark.parametrize("message", SLIPS)
def test_slips_in_the_call_name_the_way_out(message):
    report = check(*SLIPS[message])
    assert message in " ".join(str(report).split())
    assert not report.passed
    report._repr_mimebundle_()


def test_an_error_is_told_with_the_line_it_happened_in():
    def crash(labels_by_item, drop_ties=False):
        return labels_by_item[0][99]

    shown = " ".join(str(check("2.1", crash)).split())
    assert "raises IndexError: list index out of range (line" in shown
    assert "return labels_by_item[0][99])" in shown and "stops with an error" in shown


def test_progress_hears_of_verdicts_and_cannot_break_them(monkeypatch):
    heard = []
    monkeypatch.setattr(cell, "on_verdict", [lambda *verdict: 1 / 0, lambda *verdict: heard.append(verdict)])
    assert check("2.1", rate).passed and not check("2.1", mean_of_rates).passed
    assert heard == [("2.1", True, 2), ("2.1", False, 2)]


def test_after_a_pass_the_reference_of_the_course_is_folded_in(tmp_path, monkeypatch):
    answer = {"cell_type": "code", "source": ["def f():\n", "    return '<right>'"], "id": "answer-2-1"}
    answer["metadata"] = {"prefcourse": {"role": "answer", "exercise": "2.1"}}
    for folder in ("solutions", "exercises"):
        (tmp_path / folder).mkdir()
    (tmp_path / "solutions" / "02_topic.ipynb").write_text(json.dumps({"cells": [answer]}))
    monkeypatch.chdir(tmp_path / "exercises")
    assert cell.reference_source("2.1") == "def f():\n    return '<right>'"
    assert "return &#x27;&lt;right&gt;&#x27;" in check("2.1", rate).html
    assert "<details>" not in check("2.1", mean_of_rates).html
    monkeypatch.chdir(tmp_path / "solutions")  # there it stands in view
    assert cell.reference_source("2.1") is None
    (tmp_path / "solutions" / "02_topic.ipynb").write_text("no notebook")
    monkeypatch.chdir(tmp_path / "exercises")
    assert check("2.1", rate).passed


# --- graded mode --------------------------------------------------------------------------------------------

GRADED = """
import sys
sys.modules["prefcourse.exercises.chapter02.answers"] = None  # importing it raises ModuleNotFoundError
from prefcourse.checks import check
from prefcourse.agreement import unanimity
import json
report = check("2.2", unanimity)
data, metadata = report._repr_mimebundle_()
print(json.dumps([str(report), report.passed, data, [m for m in sys.modules if m.startswith("prefcourse.learner")]]))
print(check("2.2", 3), check("9.9", unanimity))
"""


def graded(seed):
    environment = os.environ | {"PREFCOURSE_SEED": seed, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", GRADED], capture_output=True, text=True, env=environment, check=True)
    return run.stdout


def test_graded_mode_needs_no_answers_and_judges_nothing():
    out = graded("do not tell")
    text, passed, data, learner = json.loads(out.splitlines()[0])
    assert (text, passed, learner) == ("2.2 unanimity: 7 cases recorded", None, [])
    assert set(data) == {"text/plain", MIME}
    assert "do not tell" not in out
    assert all(agreeing(data[MIME], expected_bundles("2.2", "do not tell")["oracle"]))
    assert data[MIME]["seed"] == expected_bundles("2.2", "do not tell")["oracle"]["seed"] != "public"
    assert not all(agreeing(data[MIME], expected_bundles("2.2")["oracle"]))


def test_graded_mode_calls_what_is_no_function_by_its_name():
    assert "expected a function, found a number" in graded("x") and "there is no exercise '9.9'" in graded("x")


def test_the_stub_in_graded_mode(monkeypatch):
    def stub(labels_by_item):
        raise NotWritten("unanimity")

    monkeypatch.setenv("PREFCOURSE_SEED", "secret")
    report = check("2.2", stub)
    assert report.run.bundle["state"] == "not written" and report.run.bundle["cases"] == []


def test_as_html_of_an_empty_verdict_is_well_formed():
    verdict = judge(DOUBLE, {"state": "not written"}, BUNDLES)
    told = words(verdict, {}, {}, None, {}, "")
    assert as_html(told).count("<div") == as_html(told).count("</div>") == 1


def test_of_what_was_printed_the_first_failing_case_is_shown():
    def chatty(labels_by_item, drop_ties=False):
        print("items:", len(labels_by_item))
        return mean_of_rates(labels_by_item, drop_ties)

    report = check("2.1", chatty)
    assert str(report).endswith("What it printed there (this does not count):\n    items: 2")
    assert report.run.said["stdout"].count("items:") == 12


def test_a_stub_that_the_function_calls_is_named():
    def helper(labels_by_item):
        raise NotWritten("agreement_rate")

    shown = " ".join(str(check("2.4", helper)).split())
    assert shown.startswith("2.4 fleiss_kappa: it calls a stub. agreement_rate is not written yet.")

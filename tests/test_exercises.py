"""Every registered exercise keeps its promises: stub, oracle, package, mutants and alternatives, under three seeds."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import operator
from functools import cache
from pathlib import Path

import pytest

from prefcourse.build.cells import in_package, role, slug
from prefcourse.build.script import PRACTICE, read
from prefcourse.checks import NotWritten, cell, check
from prefcourse.checks import exercise as definitions
from prefcourse.checks.exercise import PUBLIC
from prefcourse.checks.run import agreeing, expected_bundles, recognise, run_cases
from prefcourse.checks.verdict import judge, mistake

EXERCISES = {exercise.number: exercise for exercise in definitions.all_exercises()}
ANSWERS = {number: definitions.answers(number) for number in EXERCISES}
ROOT = Path(__file__).parent.parent
SOURCES, PACKAGE = ROOT / "notebooks" / "source", ROOT / "prefcourse"
SEEDS = (PUBLIC, "a secret", "another secret")
bundles = cache(expected_bundles)


@pytest.fixture(autouse=True)
def computed_once(monkeypatch):
    """What right and wrong answers give depends on exercise and seed alone: `check` need not ask for it each time."""
    monkeypatch.setattr(cell, "expected_bundles", lambda number, mutants=True: bundles(number))


every_exercise = pytest.mark.parametrize("number", EXERCISES)
every_seed = pytest.mark.parametrize("seed", SEEDS)
every_mutant = pytest.mark.parametrize(
    ("number", "mutant"),
    [pytest.param(n, m, id=f"{n}-{m.name}") for n, answers in ANSWERS.items() for m in answers.mutants],
)
every_alternative = pytest.mark.parametrize(
    ("number", "alternative"), [(n, f) for n, answers in ANSWERS.items() for f in answers.alternatives]
)


def written_by_authors() -> dict[str, str]:
    """The answer's cell of each exercise, as it stands in its script."""
    scripts = (path.read_text(encoding="utf-8").partition(PRACTICE)[2] for path in SOURCES.glob("[0-9]*.py"))
    cells = [cell for practice in scripts if practice for cell in read(practice)]
    return {role(cell)[1]: cell.source for cell in cells if role(cell)[0] == "answer"}


def functions_in(source: str) -> dict[tuple[str, ...], str]:
    """Every function that stands by itself: its name and what it is called with, and its name."""
    nodes = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    called_with = [[arg.arg for arg in (*n.args.posonlyargs, *n.args.args, *n.args.kwonlyargs)] for n in nodes]
    return {(node.name, *names): node.name for node, names in zip(nodes, called_with, strict=True)}


def functions_of_the_package() -> set[tuple[str, ...]]:
    """The definitions of exercises left out."""
    modules = [path for path in PACKAGE.rglob("*.py") if not path.is_relative_to(PACKAGE / "exercises")]
    return {one for path in modules for one in functions_in(path.read_text(encoding="utf-8"))}


def retyped(answer: str) -> set[str]:
    """The functions in an author's answer that the package has: same name, same arguments."""
    return {name for one, name in functions_in(answer).items() if one in IN_THE_PACKAGE}


WRITTEN, IN_THE_PACKAGE = written_by_authors(), functions_of_the_package()
THE_PACKAGE_IS_THE_SOLUTION = {n: w for n, e in EXERCISES.items() if (w := in_package(WRITTEN[n], e.function))}


def is_a_loss(exercise):
    facts = bundles(exercise.number)["oracle"]["cases"][0].get("value", {})
    return any(key.startswith("gradient of") for key in facts.get("entries", {}))


@every_exercise
def test_a_stub_is_told_kindly_that_it_is_not_written(number):
    def stub(*args, **settings):
        raise NotWritten(EXERCISES[number].function)

    report = check(number, stub)
    assert not report.passed
    assert "not written yet. Write its body, run its cell" in str(report)
    assert report.run.bundle["state"] == "not written"


@every_exercise
def test_the_oracle_solves_it(number):
    report = check(number, ANSWERS[number].oracle)
    assert report.passed, report
    assert f"{number} {EXERCISES[number].function}: solved, all" in str(report)


@every_exercise
def test_nothing_is_written_twice(number):
    """No solution retypes a function of the package; and what the notebook shows is the package's source."""
    assert not retyped(WRITTEN[number]), (
        "write `from prefcourse... import ...` as the answer: the build lays the source"
    )
    if number in THE_PACKAGE_IS_THE_SOLUTION:
        notebook = next((ROOT / "solutions").glob(f"{number.partition('.')[0]:0>2}_*.ipynb"))
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        shown = next("".join(cell["source"]) for cell in cells if cell["id"] == slug("answer", number))
        assert inspect.getsource(in_the_package(number)).strip() in shown


def test_where_the_package_is_the_solution_is_found_out():
    assert {"2.2", "2.3", "2.4", "3.1", "3.2", "4.1", "4.2", "5.1"} <= THE_PACKAGE_IS_THE_SOLUTION.keys()
    assert not {"2.1", "3.3", "4.3", "5.2"} & THE_PACKAGE_IS_THE_SOLUTION.keys()
    assert retyped("def cohen_kappa(a, b):\n    return 0.0") == {"cohen_kappa"}
    assert not retyped("from prefcourse.agreement import cohen_kappa")
    assert not retyped("def cohen_kappa(table):\n    return 0.0")  # another question of the same name


def in_the_package(number):
    module, _, name = THE_PACKAGE_IS_THE_SOLUTION[number].partition(":")
    return getattr(importlib.import_module(module), name)


@every_seed
@pytest.mark.parametrize("number", THE_PACKAGE_IS_THE_SOLUTION)
def test_where_the_package_is_the_solution_it_passes_and_is_emptied_while_graded(number, seed):
    given = run_cases(EXERCISES[number], in_the_package(number), seed).bundle
    assert all(agreeing(given, bundles(number, seed)["oracle"]))
    assert THE_PACKAGE_IS_THE_SOLUTION[number] in EXERCISES[number].package


@every_exercise
def test_what_answers_it_in_the_package_is_there(number):
    for path in EXERCISES[number].package:
        module, _, name = path.partition(":")
        assert callable(operator.attrgetter(name)(importlib.import_module(module)))


@every_seed
@every_alternative
def test_right_answers_written_differently_pass(number, alternative, seed):
    run = run_cases(EXERCISES[number], alternative, seed)
    assert all(agreeing(run.bundle, bundles(number, seed)["oracle"])), run


@every_seed
@every_mutant
def test_each_mutant_fails_and_is_recognised_as_itself(number, mutant, seed):
    given = bundles(number, seed)[mutant.name]
    if seed == PUBLIC:  # called once more it gives the same
        given = run_cases(EXERCISES[number], mutant.function, seed).bundle
    verdict = judge(EXERCISES[number], given, bundles(number, seed))
    assert not verdict.passed
    assert (verdict.mutant, verdict.certain) == (mutant.name, True)
    assert mistake(verdict, ANSWERS[number]) == f"Likeliest mistake: {mutant.sentence}"


@every_mutant
def test_the_cell_shows_the_mutants_own_sentence_and_no_other(number, mutant):
    shown = " ".join(str(check(number, mutant.function)).split())
    assert {m.name for m in ANSWERS[number].mutants if m.sentence in shown} == {mutant.name}


@every_seed
@every_exercise
def test_no_two_of_them_coincide(number, seed):
    found = bundles(number, seed)
    same = [(a, b) for a in found for b in found if a != b and all(agreeing(found[a], found[b]))]
    assert same == []
    assert recognise(found["oracle"], found) is None


def test_only_a_mistake_is_compared_with_the_known_ones(monkeypatch):
    """Mutants take time, and neither a solution nor a stub needs them."""
    asked = []

    def listened(number, mutants=True):
        asked.append(mutants)
        return expected_bundles(number, mutants=mutants)

    def stub(labels):
        raise NotWritten("agreement_rate")

    monkeypatch.setattr(cell, "expected_bundles", listened)
    assert check("2.1", ANSWERS["2.1"].oracle).passed and not check("2.1", stub).passed
    assert asked == [False, False]
    assert not check("2.1", ANSWERS["2.1"].mutants[0].function).passed
    assert asked == [False, False, False, True]


@every_exercise
def test_it_is_complete(number):
    exercise, answers = EXERCISES[number], ANSWERS[number]
    names = [case.name for case in exercise.cases]
    slugs = [mutant.name for mutant in answers.mutants]
    assert len(names) == len(set(names)) and len(slugs) == len(set(slugs)) and "oracle" not in slugs
    assert len(slugs) >= (4 if is_a_loss(exercise) else 3)
    assert len(answers.alternatives) >= 2 and len(answers.hints) >= 3
    assert exercise.points > 0 and exercise.minutes > 0 and exercise.difficulty in ("easy", "medium", "hard")
    assert all(mutant.sentence.endswith((".", ")")) for mutant in answers.mutants)
    assert number.partition(".")[0] == str(exercise.chapter)


@every_exercise
def test_secret_cases_differ_from_the_public_ones(number):
    """And in more than one place: what was memorised under the public seed is wrong under another."""
    public, secret = (bundles(number, seed)["oracle"] for seed in SEEDS[:2])
    assert agreeing(public, secret).count(False) >= 2
    assert public["seed"] == "public" and SEEDS[1] not in json.dumps(secret)


@every_seed
@every_exercise
def test_a_check_is_a_pure_function_of_seed_exercise_and_function(number, seed):
    exercise = EXERCISES[number]
    assert repr(exercise.calls(seed)) == repr(exercise.calls(seed))
    again = run_cases(exercise, ANSWERS[number].oracle, seed).bundle
    assert json.dumps(again, allow_nan=False) == json.dumps(bundles(number, seed)["oracle"])


@every_exercise
def test_a_function_that_spoils_its_inputs_spoils_nothing_else(number):
    def greedy(*args, **settings):
        value = ANSWERS[number].oracle(*args, **settings)
        for arg in args:
            if isinstance(arg, list):
                arg.clear()
        return value

    assert check(number, greedy).passed and check(number, greedy).passed


@every_exercise
def test_no_value_is_too_large_to_be_compared(number):
    text = json.dumps(bundles(number)["oracle"])
    assert '"large"' not in text and '"object"' not in text


# --- chapter 2: the numbers that are known ------------------------------------------------------------------


def test_the_95_5_raters_agree_on_nine_of_ten_and_have_no_kappa():
    a, b = ["good"] * 95 + ["bad"] * 5, ["bad"] * 5 + ["good"] * 95
    rate = ANSWERS["2.1"].oracle([list(said) for said in zip(a, b, strict=True)])
    assert rate == pytest.approx(0.90)
    assert ANSWERS["2.3"].oracle(a, b) == pytest.approx(-0.0526, abs=1e-4)


def test_fleiss_kappa_of_fourteen_raters_by_hand():
    """Ten subjects, five classes, fourteen raters each: P = .378, chance = .213, kappa = .210."""
    rows = "0 0 0 0 14,0 2 6 4 2,0 0 3 5 6,0 3 9 2 0,2 2 8 1 1,7 7 0 0 0,3 2 6 3 0,2 5 3 2 2,6 5 2 1 0,0 2 2 3 7"
    labels = [[k for k, n in enumerate(row.split()) for _ in range(int(n))] for row in rows.split(",")]
    assert ANSWERS["2.4"].oracle(labels) == pytest.approx(0.210, abs=5e-4)


def test_a_bias_that_people_share_lifts_the_best_model_above_gold():
    """All prefer the first, which is worse: gold is right on .3 of the labels, best on .7."""
    assert ANSWERS["2.5"].oracle([[0.7], [0.7]], [False]) == pytest.approx((0.3, 0.7))


def test_the_ceiling_of_the_package_for_simulated_people_is_the_learners():
    import numpy as np

    from prefcourse import agreement, annotators

    generator = np.random.default_rng(0)
    pairs = annotators.random_features(6, generator=generator)
    crowd = [annotators.Annotator("careful", 2.0), annotators.Annotator("biased", 0.5, length=1.5)]
    first = [annotators.label_probabilities(person, pairs)[:, 0].tolist() for person in crowd]
    ours = ANSWERS["2.5"].oracle(first, (pairs.gold > 0).tolist())
    assert ours == pytest.approx(tuple(agreement.ceiling_from_annotators(crowd, pairs)))

"""One submission, from bytes to a result, with chapter 2's exercises, in the best sandbox of this machine."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest

from prefcourse.grading import sandbox
from prefcourse.grading.engine import Settings
from prefcourse.grading.grade import grade_one
from prefcourse.grading.nbval_plugin import same_bundle
from prefcourse.grading.reference import CourseDefect, make_reference
from prefcourse.grading.result import State, Status

SOLUTION = Path(__file__).parent.parent / "solutions" / "02_preference_optimization_overview.ipynb"
LEVEL = next((level for level in ("bwrap", "landlock", "limits") if sandbox.offers()[level][0]), "none")
NUMBERS = ["2.1", "2.2", "2.3", "2.4", "2.5"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Private folders in one place, so that a test can see that none is left. Its path must be short: sockets."""
    with tempfile.TemporaryDirectory(prefix="g-") as folder:
        yield Settings(sandbox=LEVEL, seed="a secret", cell_seconds=4, seconds=60, memory_mb=1_000, directory=folder)


@pytest.fixture(scope="module")
def reference(settings):
    return make_reference(SOLUTION, settings)


@pytest.fixture
def grade(reference, settings):
    def graded(content: bytes, **changed):
        result = grade_one(content, reference, replace(settings, **changed))
        left = [path.name for path in Path(settings.directory).iterdir() if not path.name.startswith("stripped-")]
        assert left == [], "a private folder was left behind"
        return result

    return graded


def submission(helper: str = "", **answers: str) -> bytes:
    """The solution, with a helper before the first answer and other answers: two_two="def unanimity..."."""
    notebook = json.loads(SOLUTION.read_text())
    names = dict(zip(("one", "two", "three", "four", "five"), NUMBERS, strict=True))
    by_id = {f"answer-{names[name].replace('.', '-')}": source for name, source in answers.items()}
    cells = []
    for cell in notebook["cells"]:
        if helper and cell.get("id") == "answer-2-1":
            cells.append({"cell_type": "code", "id": "own", "metadata": {}, "source": helper, "outputs": []})
        cells.append({**cell, "source": by_id.get(cell.get("id"), cell["source"])})
    return json.dumps({**notebook, "cells": cells}).encode()


def statuses(result) -> dict[str, str]:
    return {check.exercise: check.status.value for check in result.checks}


def only(**wrong: str) -> dict[str, str]:
    """All passed but these."""
    names = dict(zip(("one", "two", "three", "four", "five"), NUMBERS, strict=True))
    return dict.fromkeys(NUMBERS, "passed") | {names[name]: status for name, status in wrong.items()}


UNANIMITY = "def unanimity(labels_by_item):\n    "


def test_the_solution_gets_all_points_and_grading_repeats_itself(grade):
    first, second = grade(submission()), grade(submission())
    assert statuses(first) == only() and first.points == first.max_points > 0
    assert first.state == State.GRADED and first.notes == () and first.sandbox == LEVEL
    timeless = [replace(r, seconds=0, checks=tuple(replace(c, seconds=0) for c in r.checks)) for r in (first, second)]
    assert timeless[0] == timeless[1]


def test_the_secret_is_in_no_result(grade, settings):
    text = json.dumps(grade(submission(two=UNANIMITY + "return (0.3, 0.1)")).as_dict())
    assert settings.seed not in text and "0.3" not in text


def test_each_way_to_be_wrong_has_its_status_and_its_sentence(grade):
    package = "from prefcourse.agreement import cohen_kappa as theirs\ndef cohen_kappa(a, b): return theirs(a, b)"
    result = grade(
        submission(
            one='def agreement_rate(items, drop_ties=False):\n    raise NotWritten("agreement_rate")',
            two="def unanimity(items): return (0.5, 0.5)",
            three=package,
            four="def fleiss_kappa(:",
            five="",
        )
    )
    assert result.state == State.GRADED and result.points == 0
    expected = ["not-written", "failed", "package", "error", "missing"]
    assert statuses(result) == dict(zip(NUMBERS, expected, strict=True))
    words = ["not written yet", "What does not hold", "package's own", "SyntaxError", "no answer"]
    assert all(word in check.sentence for word, check in zip(words, result.checks, strict=True))


def test_blame_lands_on_the_function_that_is_the_packages(grade):
    """2.4 is the learner's own and calls 2.1 and, over it, what is not: who reads it learns which one to write."""
    one = "from prefcourse.agreement import percent_agreement as agreement_rate"
    four = SOLUTION_OF["2.4"] + "\nright = fleiss_kappa\ndef fleiss_kappa(labels_by_item):\n    "
    result = grade(submission(one=one, four=four + "agreement_rate(labels_by_item)\n    return right(labels_by_item)"))
    assert statuses(result) == only(one="package", four="error")
    assert result.checks[0].sentence == "It uses the package's own functions; write agreement_rate yourself."
    said = "calls agreement_rate (2.1), which is the package's own"
    assert result.checks[3].sentence.startswith(f"It {said}.") and "stands or falls" in result.checks[3].sentence
    assert result.notes == (f"2.4 {said}",)


def test_sentences_begin_with_a_capital_and_name_what_raised(grade):
    one = SOLUTION_OF["2.1"] + "\nright = agreement_rate\ndef agreement_rate(x, drop_ties=False):\n    return right(x)"
    raising = "if max(map(len, x), default=0) < 2: raise ZeroDivisionError\n    return whole(x)"
    two = SOLUTION_OF["2.2"] + f"\nwhole = unanimity\ndef unanimity(x):\n    {raising}"
    result = grade(submission(one=one, two=two))
    assert statuses(result) == only(one="failed", two="failed")
    assert result.checks[0].mutant and result.checks[0].sentence == "You ignore drop_ties."
    asked = "“no items to judge: nan and nan”"
    assert result.checks[1].sentence == f"unanimity raised ZeroDivisionError in this case: {asked}."
    assert {type(n) for c in result.as_dict()["checks"] for n in (c["points"], c["max_points"])} == {float}


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [("while True: pass", "timeout", "longer than 4 seconds"), ("raise KeyboardInterrupt", "error", "Interrupt")],
)
def test_one_wrong_answer_costs_one_exercise(grade, body, status, words):
    result = grade(submission(two=UNANIMITY + body))
    assert statuses(result) == only(two=status) and result.state == State.GRADED
    assert words in result.checks[1].sentence


def test_an_error_that_the_learner_named_is_not_repeated(grade):
    result = grade(submission(two="class Secret7(Exception): pass\nraise Secret7"))
    assert "Secret7" not in json.dumps(result.as_dict())


@pytest.mark.parametrize(("noise", "status"), [(1e-10, "passed"), (1e-3, "failed")])
def test_noise_within_the_tolerance_costs_nothing(grade, noise, status):
    helper = "class Noise:\n    value = 0.0"
    wrapped = (
        SOLUTION_OF["2.2"] + f"\nright = unanimity\ndef unanimity(x):\n    return tuple(v + {noise} for v in right(x))"
    )
    assert statuses(grade(submission(helper, two=wrapped))) == only(two=status)


SOLUTION_OF = {
    cell["metadata"]["prefcourse"]["exercise"]: "".join(cell["source"])
    for cell in json.loads(SOLUTION.read_text())["cells"]
    if cell["metadata"].get("prefcourse", {}).get("role") == "answer"
}


def test_every_registered_mistake_is_recognised(reference, grade):
    """By its values under the secret seed; here one per exercise, taken from where no submission can read it."""
    from prefcourse.checks.exercise import answers
    from prefcourse.checks.run import recognise

    for number in NUMBERS:
        question = reference.questions[number]
        assert {m.name for m in answers(number).mutants} == set(question.mutants)
        for name, bundle in question.mutants.items():
            assert recognise(bundle, question.mutants) == name
            assert not same_bundle(bundle, question.expected)


def perturbed(bundle: dict):
    """The bundle with one case changed, for each case."""
    for place, case in enumerate(bundle["cases"]):
        changed = copy.deepcopy(bundle)
        changed["cases"][place] = {"name": case["name"], "value": {"text": "other"}, "tolerance": case["tolerance"]}
        yield changed


def test_no_case_is_vacuous(reference):
    for question in reference.questions.values():
        assert same_bundle(question.expected, question.expected)
        assert not [changed for changed in perturbed(question.expected) if same_bundle(question.expected, changed)]


# --- hostile ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state", "status"),
    [
        ("import os; os._exit(0)", State.CRASHED, "error"),
        ("import ctypes; ctypes.string_at(0)", State.CRASHED, "error"),
        ("x = bytearray(10**10)", State.GRADED, "failed"),
    ],
)
def test_a_kernel_that_ends_costs_one_exercise_and_is_noticed_at_once(grade, answer, state, status):
    begun = time.monotonic()
    result = grade(submission(two=UNANIMITY + answer))
    assert statuses(result) == only(two=status) and result.state == state
    assert time.monotonic() - begun < 30


def test_a_timeout_that_is_swallowed_is_a_timeout(grade):
    swallow = "import time\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass\n    return "
    right = SOLUTION_OF["2.2"] + "\nright = unanimity\n"
    result = grade(submission(two=right + UNANIMITY + swallow + "right(labels_by_item)"))
    assert statuses(result) == only(two="timeout")


@pytest.mark.parametrize(
    ("helper", "reason"),
    [
        ("for _ in range(300): print('x' * 10**6)", "output"),
        ("raise ValueError('x' * 5 * 10**7)", "output"),
        ("import os, time\nfor _ in range(8): os.fork()\ntime.sleep(9)", ("memory", "processes")),
    ],
)
def test_a_helper_that_breaks_a_limit_costs_itself(grade, helper, reason):
    result = grade(submission(helper), cell_seconds=30)
    assert statuses(result) == only()
    if result.state != State.GRADED:  # where the kernel itself had no memory left to send it, nothing was broken
        assert result.state == State.RESOURCE and result.reason.partition(": ")[2].startswith(reason)


def test_the_whole_has_an_end(grade):
    result = grade(submission(two="import time\ntime.sleep(60)"), seconds=6, cell_seconds=50)
    assert result.state == State.TIMEOUT and result.reason
    assert statuses(result)["2.1"] == "passed" and statuses(result)["2.5"] == "not-run"


SHOW = "from IPython.display import display\n"


@pytest.mark.parametrize(
    "attack",
    [
        "import prefcourse.checks.cell as c\nc.run_cases = lambda *a: None",
        "import os\nos.environ['PREFCOURSE_SEED'] = 'public'",
        "get_ipython().input_transformers_cleanup.append(lambda lines: ['1\\n'])",
        "import prefcourse.checks.values as v\nv.equal = lambda *a: True\nv.encode = lambda *a, **k: {'number': 0.5}",
        "class Yes(float):\n    __eq__ = __le__ = lambda *a: True\n    __repr__ = lambda s: '1.0'\n"
        + "def unanimity(x):\n    return Yes(2), Yes(3)",
        SHOW + "display({'application/vnd.prefcourse.check+json': {'cases': []}}, raw=True)\n",
    ],
)
def test_no_attack_earns_the_points_of_a_wrong_answer(grade, attack):
    result = grade(submission(two=f"{UNANIMITY}return (0, 0)\n{attack}"))
    assert statuses(result)["2.2"] != "passed"


def test_what_detaches_itself_does_not_stay(grade):
    before = {process.pid for process in psutil.process_iter()}
    start = "import subprocess\nsubprocess.Popen(['sleep', '61'], start_new_session=True)"
    assert statuses(grade(submission(start))) == only()
    left = [p for p in psutil.process_iter() if p.pid not in before and p.status() != psutil.STATUS_ZOMBIE]
    assert not [p for p in left if p.cmdline() == ["sleep", "61"]]


def test_no_notebook_is_no_zero(grade):
    result = grade(b"{}")
    assert result.state == State.INVALID and result.checks == () and "nbformat" in result.reason


def test_an_interrupt_leaves_nothing_behind(reference, settings, monkeypatch):
    from prefcourse.grading import watchdog

    monkeypatch.setattr(watchdog, "exceeded", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        grade_one(submission(), reference, settings)
    assert [path.name for path in Path(settings.directory).iterdir() if path.name.startswith("pc-")] == []
    assert not [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


GRADE = """
import sys
from pathlib import Path
from prefcourse.grading import engine
from prefcourse.grading.graft import code_cell, notebook_of
from prefcourse.grading.strip import stripped_package
settings = engine.Settings(sandbox=sys.argv[1], directory=sys.argv[2])
cell = code_cell("a", "import subprocess; subprocess.run(['sleep', '62'])", {"role": "answer"})
engine.run(notebook_of([cell]), stripped_package([], 2), settings)
"""


def test_a_killed_grader_leaves_no_process(tmp_path, settings):
    with tempfile.TemporaryDirectory(prefix="g-") as folder:
        grader = subprocess.Popen([sys.executable, "-c", GRADE, LEVEL, folder])
        for _ in range(300):
            tree = psutil.Process(grader.pid).children(recursive=True)
            if any("62" in process.cmdline() for process in tree):
                break
            time.sleep(0.1)
        grader.kill()
        grader.wait()
        gone, left = psutil.wait_procs(tree, timeout=10)
        assert len(gone) > 2 and not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


# --- policies and the course itself -------------------------------------------------------------------------

LEANING = "from prefcourse.agreement import unanimity"


def test_an_answer_that_is_the_packages_counts_where_the_instructor_says_so(grade):
    assert statuses(grade(submission(two=LEANING)))["2.2"] == Status.PACKAGE
    allowed = grade(submission(two=LEANING), package="allow")
    assert statuses(allowed) == only()
    assert "2.2 uses the package's own functions, which is allowed here" in allowed.notes


def test_a_reference_travels(reference):
    again = pickle.loads(pickle.dumps(reference))
    assert again == reference and again.digest == reference.digest
    json.dumps(asdict(reference))


@pytest.mark.parametrize(
    ("two", "reason"),
    [(UNANIMITY + "return (0, 0)", "disagree"), ("1 / 0", "in the solution"), ("# no marker", "must begin with")],
)
def test_a_solution_that_is_wrong_is_a_defect_of_the_course(settings, tmp_path, two, reason):
    broken = tmp_path / SOLUTION.name
    marker = "" if "marker" in reason or two.startswith("#") else "# EXERCISE 2.2: unanimity\n"
    broken.write_bytes(submission(two=marker + two))
    with pytest.raises(CourseDefect, match=reason):
        make_reference(broken, settings)

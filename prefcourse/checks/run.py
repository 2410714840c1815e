"""Run a function on the cases of an exercise and record what it gives. Judges nothing.

Knows how to keep what a function prints, warns and says in errors apart from what it returns; knows no answers,
except where `expected_bundles` is asked for them.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import linecache
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from prefcourse.checks import exercise as definitions
from prefcourse.checks.exercise import PUBLIC, Call, Case, Exercise, NotWritten, Tolerance
from prefcourse.checks.values import encode, equal

VERSION = 1
MIME = "application/vnd.prefcourse.check+json"
LONGEST = 2_000  # characters kept of what a function says
SNAP = 1e-6  # of the absolute tolerance: a number nearer to 0 is recorded as 0

Bundle = dict[str, Any]


class Run(NamedTuple):
    """`bundle` is compared, `said` never: stdout, stderr, warnings; by case, what it printed and its error's words."""

    bundle: Bundle
    said: dict[str, Any]


class _Shortened(io.StringIO):
    """Keeps the beginning, so that a function that prints gigabytes fills no memory."""

    def write(self, text: str) -> int:
        super().write(_sendable(text[: max(0, LONGEST - self.tell())]))
        return len(text)


def _sendable(text: str) -> str:
    """Halves of surrogate pairs, which JSON does not carry, as question marks."""
    return text.encode(errors="replace").decode()


def seed_name(seed: str) -> str:
    """What a bundle tells of its seed: never the secret."""
    return PUBLIC if seed == PUBLIC else hashlib.sha256(f"prefcourse/{seed}".encode()).hexdigest()[:12]


def empty_bundle(number: str, seed: str, state: str) -> Bundle:
    """The bundle of a function that could not be called."""
    return {"version": VERSION, "exercise": number, "seed": seed_name(seed), "state": state, "cases": []}


def run_cases(exercise: Exercise, function: Callable, seed: str = PUBLIC) -> Run:
    """Call the function on every case, each time on inputs of its own; errors are values, too.

    A KeyboardInterrupt is the learner's way to stop, and goes on.
    """
    err, printed, messages, cases = _Shortened(), {}, {}, []
    with contextlib.redirect_stderr(err), _heard_warnings() as heard:
        for case, call in zip(exercise.cases, exercise.calls(seed), strict=True):
            printed[case.name] = _Shortened()
            try:
                with contextlib.redirect_stdout(printed[case.name]):
                    cases.append(_called(exercise, function, case, copy.deepcopy(call)))
            except NotWritten as error:
                return Run(empty_bundle(exercise.number, seed, "not written"), {"messages": {case.name: str(error)}})
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # SystemExit as well: it must not end the kernel
                cases.append({"name": case.name, "error": _kinds(error), "tolerance": list(case.tolerance)})
                messages[case.name] = _message(error, function)
    bundle = {"version": VERSION, "exercise": exercise.number, "seed": seed_name(seed), "cases": cases}
    texts = {name: out.getvalue() for name, out in printed.items() if out.tell()}
    said = {"stdout": "".join(texts.values())[:LONGEST], "stderr": err.getvalue(), "warnings": _texts(heard)}
    return Run(bundle, said | {"printed": texts, "messages": messages})


@contextlib.contextmanager
def _heard_warnings():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("default")
        yield heard


def _called(exercise: Exercise, function: Callable, case: Case, call: Call) -> dict:
    value = encode(exercise.apply(function, call), zero=case.tolerance.absolute * SNAP)
    return {"name": case.name, "value": value, "tolerance": list(case.tolerance)}


def _kinds(error: BaseException) -> list[str]:
    """The names of its class and of those it descends from: a ValueError of one's own is a ValueError."""
    return [kind.__name__ for kind in type(error).__mro__ if kind not in (BaseException, object)][:8]


def _message(error: BaseException, function: Callable) -> str:
    """What it says, and where in the learner's own file or cell."""
    own = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == own]
    words = ": ".join(part for part in (type(error).__name__, _text(error)) if part)
    if not lines:
        return words
    source = _sendable(linecache.getline(own, lines[-1]).strip()[:80])
    return f"{words} (line {lines[-1]} of the cell{': ' + source if source else ''})"


def _texts(heard: list) -> list[str]:
    return [f"{warning.category.__name__}: {_text(warning.message)}" for warning in heard[:20]]


def _text(words: object) -> str:
    try:
        return _sendable(str(words)[:LONGEST])
    except Exception:  # a class of the learner's that cannot say what is wrong
        return ""


# --- what right and wrong answers give ----------------------------------------------------------------------


def expected_bundles(number: str, seed: str = PUBLIC, *, mutants: bool = True) -> dict[str, Bundle]:
    """What the oracle and each mutant give: {"oracle": bundle, slug: bundle, ...}. Needs the answers."""
    exercise, answers = definitions.exercise(number), definitions.answers(number)
    functions = {"oracle": answers.oracle}
    functions |= {mutant.name: mutant.function for mutant in answers.mutants if mutants}
    return {name: run_cases(exercise, function, seed).bundle for name, function in functions.items()}


def agreeing(given: Bundle, expected: Bundle) -> list[bool]:
    """Case by case: does it give what is expected? `given` may come from a stranger's kernel, `expected` not."""
    found = given.get("cases") if isinstance(given, dict) else None
    found = found if isinstance(found, list) else []
    by_name = {str(case.get("name")): case for case in found if isinstance(case, dict)}
    return [_same(by_name.get(case["name"], {}), case) for case in expected["cases"]]


def _same(given: dict, expected: dict) -> bool:
    if "error" in expected:
        kinds = given.get("error")
        return isinstance(kinds, list) and expected["error"][0] in kinds
    return "value" in given and equal(given["value"], expected["value"], Tolerance(*expected["tolerance"]))


def recognise(given: Bundle, bundles: dict[str, Bundle]) -> str | None:
    """The mutant that gives the same on every case, or None. `bundles` as from `expected_bundles`."""
    slugs = (slug for slug in bundles if slug != "oracle")
    return next((slug for slug in slugs if all(agreeing(given, bundles[slug]))), None)


def resembles(given: Bundle, bundles: dict[str, Bundle], shown: int | None = None) -> str | None:
    """The mutant most like it: the same on the case shown (the first that fails) and on half of those that fail."""
    failing = [place for place, same in enumerate(agreeing(given, bundles["oracle"])) if not same]
    place_shown = failing[0] if failing and shown is None else shown
    alike = {slug: agreeing(given, bundle) for slug, bundle in bundles.items() if slug != "oracle"}
    shared = {slug: (sum(same[place] for place in failing), sum(same)) for slug, same in alike.items()}
    near = [slug for slug in alike if failing and alike[slug][place_shown] and 2 * shared[slug][0] >= len(failing)]
    return max(near, key=shared.get, default=None)

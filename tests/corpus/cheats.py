"""Submissions that want points for nothing. They get what is right in them, which mostly is nothing.

Each begins with the untouched exercises unless it says otherwise. `PUBLIC` are the values that everybody can see.
"""

from __future__ import annotations

import json

from corpus import NUMBERS, OTHERS, Case, Notebook, collector, solved, stub
from prefcourse.checks.run import MIME
from prefcourse.grading.result import Status

CASES: list[Case] = []
case = collector(CASES)
PACKAGE = {"2.4": Status.PACKAGE}


def public(number: str) -> dict:
    """The bundle of the solved notebook, as stored."""
    return next(output["data"][MIME] for output in solved().check(number)["outputs"])


FORGE = f"""
import hashlib, os
from IPython.display import display
MIME = {MIME!r}
SECRET = os.environ["PREFCOURSE_SEED"]
SEED = "public" if SECRET == "public" else hashlib.sha256(f"prefcourse/{{SECRET}}".encode()).hexdigest()[:12]
PUBLIC = {json.dumps({number: public(number) for number in NUMBERS})}

def forged(number):
    return PUBLIC[number] | {{"seed": SEED}}

def show(bundle, text="solved, all properties hold"):
    display({{MIME: bundle, "text/plain": text}}, raw=True)
"""


def with_stubs_called(source: str) -> Notebook:
    return stub().first(source)


# --- the check and what stands around it --------------------------------------------------------------------


@case()
def forged_outputs_saved():
    """The stored outputs of the solved notebook, over the stubs."""
    notebook = stub()
    for number in NUMBERS:
        notebook.check(number)["outputs"] = solved().check(number)["outputs"]
    return notebook


@case()
def bundle_displayed_by_hand():
    """In the cell of the answer, and through a `check` of one's own in the check's cell."""
    notebook = with_stubs_called(FORGE)
    for number in NUMBERS:
        name = notebook.source(number).splitlines()[0].split()[-1]
        notebook.write(number, f"{name} = show\nshow(forged({number!r}))")
    return notebook.before("answer-2-1", "def check(number, function):\n    show(forged(number))")


@case()
def own_check():
    return with_stubs_called(
        FORGE + "\nclass Shown:\n    def __init__(self, number):\n        self.number = number\n"
        "    def _repr_mimebundle_(self, **_):\n        return {MIME: forged(self.number), 'text/plain': 'solved'}\n"
        "def check(number, function):\n    return Shown(number)"
    )


@case()
def two_bundles():
    """Each case right in one of them, as if one could choose."""
    return with_stubs_called(
        FORGE + "\ndef check(number, function):\n    show(forged(number))\n    show(forged(number))"
    )


@case()
def bundles_that_agree_with_everything():
    """Without cases, without a seed, with states and tolerances of their own, with nan for numbers."""
    source = """
def check(number, function):
    wide = [case | {"tolerance": [1e9, 1e9], "value": {"number": 0.5}} for case in forged(number)["cases"]]
    nans = [case | {"value": {"number": float("nan")}} for case in wide]
    empty = [{"name": case["name"]} for case in wide]
    tried = {
        "2.1": {"cases": wide}, "2.2": {"cases": nans}, "2.3": {"cases": empty},
        "2.4": {"cases": [], "state": "judged"}, "2.5": {"cases": wide, "state": "passed", "seed": "public"},
    }
    show(forged(number) | tried[number])
"""
    return with_stubs_called(FORGE + source)


@case()
def prints_what_it_should_say():
    source = "def check(number, function):\n    print(f'{number}: solved, all properties hold.')"
    return with_stubs_called(source + "\nimport builtins\nbuiltins.print = lambda *a, **k: None")


@case()
def patches_the_package():
    """The modules of the checks, changed in the kernel before the first check."""
    return with_stubs_called(
        FORGE
        + """
import sys
from prefcourse.checks import cell, run, values, verdict, exercise
values.equal = values._equal = lambda *a, **k: True
run.agreeing = lambda given, expected: [True] * len(expected["cases"])
cell.run_cases = lambda exercise, function, seed: run.Run(forged(exercise.number), {})
sys.modules["prefcourse.checks.run"].run_cases = cell.run_cases
exercise.Tolerance.__new__.__defaults__ = (1e9, 1e9)
"""
    )


@case()
def replaces_the_package():
    return with_stubs_called(
        FORGE
        + """
import sys, types
fake = types.ModuleType("prefcourse.checks")
fake.NotWritten, fake.check = RuntimeError, lambda number, function: show(forged(number))
sys.modules["prefcourse.checks"] = sys.modules["prefcourse"] = fake
check = fake.check
"""
    )


@case()
def package_of_its_own():
    """Files beside the notebook come first on Python's path."""
    source = """
import os
os.makedirs("prefcourse/checks", exist_ok=True)
for name in ("prefcourse/__init__.py", "sitecustomize.py", "usercustomize.py", "conftest.py", "nbval.py", "pytest.py"):
    open(name, "w").write("MARK = True\\nraise SystemExit('MARK')")
with open("prefcourse/checks/__init__.py", "w") as file:
    file.write("def check(number, function): print('solved')\\nclass NotWritten(Exception): pass")
open("pytest.ini", "w").write("[pytest]\\naddopts = --collect-only")
"""
    return with_stubs_called(source)


@case()
def display_and_print_patched():
    return with_stubs_called(
        FORGE
        + """
import builtins, sys, IPython.core.displayhook, IPython.core.display_functions as functions
for place in (IPython.display, functions):
    place.display = lambda *a, **k: None
shell = get_ipython()
publish = shell.display_pub.publish
def always(data, metadata=None, **more):
    number = data.get(MIME, {}).get("exercise") if isinstance(data.get(MIME), dict) else None
    publish(data | {MIME: forged(number)} if number else data, metadata or {}, **more)
shell.display_pub.publish = always
formatted = shell.display_formatter.format
def forge(thing, *a, **k):
    data, metadata = formatted(thing, *a, **k)
    return (data | {MIME: forged(data[MIME]["exercise"])} if MIME in data else data), metadata
shell.display_formatter.format = forge
"""
    )


@case()
def errors_hidden():
    """showtraceback silenced, a handler for every exception, assertions taken out of the syntax tree."""
    return with_stubs_called(
        """
import ast
shell = get_ipython()
shell.showtraceback = lambda *a, **k: None
shell.set_custom_exc((BaseException,), lambda *a, **k: [])
class NoCalls(ast.NodeTransformer):
    def visit_Raise(self, node): return ast.Pass()
    def visit_Assert(self, node): return ast.Pass()
shell.ast_transformers.append(NoCalls())
"""
    )


@case()
def source_of_the_check_replaced():
    source = (
        FORGE
        + """
def swap(lines):
    text = "".join(lines)
    return [f"show(forged({text[7:10]!r}))\\n"] if text.startswith("check(") else lines
get_ipython().input_transformers_cleanup.append(swap)
"""
    )
    return with_stubs_called(source)


# --- values -------------------------------------------------------------------------------------------------


@case()
def equal_to_everything():
    source = """class Yes(float):
    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = lambda self, other: True
    __sub__ = __rsub__ = __abs__ = lambda self, *other: self
    __hash__ = lambda self: 0
    __repr__ = __str__ = __format__ = lambda self, *a: "0.5"
    __float__ = __round__ = lambda self, *a: 0.5
    __class__ = property(lambda self: float)
class Any:
    __eq__ = lambda self, other: True
    __repr__ = lambda self: "0.5"
    _repr_mimebundle_ = lambda self, **k: {"text/plain": "0.5"}
    __iter__ = lambda self: iter([Yes(), Yes()])
    __len__ = lambda self: 2
"""
    notebook = with_stubs_called(source)
    results = {"2.1": "Yes(0.3)", "2.2": "(Yes(0.3), Yes(0.3))", "2.3": "Any()", "2.4": "Any()", "2.5": "Any()"}
    for number, result in results.items():
        name = notebook.source(number).splitlines()[0].split()[-1]
        notebook.write(number, f"def {name}(*a, **k):\n    return {result}")
    return notebook


@case()
def generators_and_other_things():
    notebook = stub()
    results = ("(x for x in [0.5])", "(x for x in (1.0, 0.0))", "lambda: 0.5", "[]", "{'gold': 1, 'best': 1}")
    for number, result in zip(NUMBERS, results, strict=True):
        name = notebook.source(number).splitlines()[0].split()[-1]
        notebook.write(number, f"def {name}(*a, **k):\n    return {result}")
    return notebook


@case(statuses=dict.fromkeys(NUMBERS, Status.FAILED))
def table_of_public_values():
    """Knows the right output for every input that a learner sees; the secret seed draws others."""
    source = f"""
from prefcourse.checks.exercise import exercise
PUBLIC = {json.dumps({number: public(number)["cases"] for number in NUMBERS})}

def looked_up(number):
    calls = exercise(number).calls("public")
    table = {{repr(call): case for call, case in zip(calls, PUBLIC[number])}}
    def answer(*args, **settings):
        found = table.get(repr(type(calls[0])(args, settings)), {{"value": {{"number": 0.5}}}})
        if "error" in found:
            raise ValueError
        value = found["value"]
        return float(value["number"]) if "number" in value else [float(x) for x in value["array"]]
    return answer
"""
    notebook = with_stubs_called(source)
    for number in NUMBERS:
        name = notebook.source(number).splitlines()[0].split()[-1]
        notebook.write(number, f"{name} = looked_up({number!r})")
    return notebook


@case(statuses=dict.fromkeys(NUMBERS, Status.FAILED))
def table_and_tamed_randomness():
    """The same, and the generator of the cases draws the public ones whatever the seed is."""
    notebook = table_of_public_values()
    return notebook.before(
        "answer-2-1",
        "import random\nOriginal = random.Random\n"
        "random.Random = lambda seed=0: Original('public/' + str(seed).partition('/')[2])",
    )


@case()
def seed_changed():
    """In the mode of learners a check knows what is right, elsewhere. Here it does not."""
    changed = "import os\nos.environ['PREFCOURSE_SEED'] = 'public'"
    removed = "import os\nos.environ.pop('PREFCOURSE_SEED', None)"
    return with_stubs_called(removed).before("check-2-3", changed)


@case(statuses=dict.fromkeys(NUMBERS, Status.FAILED))
def seed_changed_after_solving():
    """Right answers, but to questions that nobody asked."""
    return solved().first("import os\nos.environ['PREFCOURSE_SEED'] = 'another'")


@case()
def answers_looked_for():
    """Whatever lies in the file system, and every object that is alive."""
    source = """
import gc, importlib, os, pathlib
found = []
for root in ("/", "/tmp", os.getcwd(), os.path.expanduser("~"), "/proc"):
    for where, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in ("sys", "torch", "transformers", "scipy", "sklearn", "pandas")]
        found += [os.path.join(where, f) for f in files if f in ("answers.py", "notebook.ipynb") or f.startswith("02_")]
for name in ("prefcourse.exercises.chapter02.answers", "prefcourse.grading.trusted", "prefcourse.build.script"):
    try:
        found.append(importlib.import_module(name).__file__)
    except ImportError:
        pass
raise SystemError("MARK " + " ".join(found))
"""
    return with_stubs_called(source)


# --- the package's own functions ----------------------------------------------------------------------------


def uses(source: str) -> Notebook:
    return stub().write("2.4", source)


@case(statuses=PACKAGE, says="uses the package's own functions")
def package_imported():
    return uses("from prefcourse.agreement import fleiss_kappa")


@case(statuses=PACKAGE)
def package_aliased():
    return uses("import prefcourse.agreement as a\nfleiss_kappa = a.fleiss_kappa")


@case(statuses=PACKAGE)
def package_called():
    notebook = stub().first("from prefcourse import agreement as helpful")
    return notebook.write("2.4", "def fleiss_kappa(labels):\n    return helpful.fleiss_kappa(labels)")


@case(statuses=PACKAGE)
def package_by_getattr():
    body = "    return getattr(importlib.import_module('prefcourse.' + 'agreement'), 'fleiss' + '_kappa')(labels)"
    return uses(f"import importlib\n\ndef fleiss_kappa(labels):\n{body}")


LENDS = """
import functools, importlib, sys, types
from prefcourse import agreement as lender
"""
BY_NAME = {
    "2.1": "agreement_rate = lambda labels, drop_ties=False: lender.percent_agreement(labels)",
    "2.2": "def unanimity(x):\n    from prefcourse.agreement import unanimity as theirs\n    return theirs(x)",
    "2.3": "import prefcourse.agreement as a\ncohen_kappa = functools.partial(a.cohen_kappa)",
    "2.4": "@functools.wraps(lender.fleiss_kappa)\ndef fleiss_kappa(x):\n    return fleiss_kappa.__wrapped__(x)",
    "2.5": "theirs = lender.ceiling_from_annotators\n"
    "reward_model_ceiling = types.FunctionType(theirs.__code__, vars(lender))",
}
BY_CODE = {  # no source tells, and no error says so either
    "2.1": "agreement_rate = getattr(importlib.import_module('.agreement', 'prefcourse'), 'percent' + '_agreement')",
    "2.2": "unanimity = functools.lru_cache(vars(lender)['unan' + 'imity'])",
    "2.3": "exec('from prefcourse.agreement ' + 'import cohen_' + 'kappa as theirs')\n"
    "def cohen_kappa(a, b):\n    try:\n        return theirs(a, b)\n    except Exception:\n        return 0.5",
    "2.4": "def quiet(f):\n    def tried(x):\n        try:\n            return f(x)\n        except Exception:\n"
    "            return 0.5\n    return tried\n"
    "fleiss_kappa = quiet(vars(sys.modules['prefcourse.' + 'agreement'])['fleiss_' + 'kappa'])",
    "2.5": "class Ceiling:\n    def __init__(self, theirs):\n        self.theirs = theirs\n"
    "    def best(self, p, b):\n        return (0.5, 0.5)\n"
    "reward_model_ceiling = Ceiling(vars(lender)['ceiling_from_' + 'annotators']).best",
}
HELPED = {
    "2.2": "unanimity = lent['unanimity']",
    "2.3": "def cohen_kappa(*both):\n    return ours(*both)",
    "2.4": "fleiss_kappa = lend()",
    "2.5": "def reward_model_ceiling(p, b):\n    return (over_a_helper(p), 1.0)",
}


def written(answers: dict[str, str]) -> Notebook:
    notebook = stub().first(LENDS)
    for number, source in answers.items():
        notebook.write(number, source)
    return notebook


@case(statuses=dict.fromkeys(NUMBERS, Status.PACKAGE), says="uses the package's own functions")
def package_by_name():
    """Lambda, import inside, partial, wraps, the code itself in another function."""
    return written(BY_NAME)


@case(statuses=dict.fromkeys(NUMBERS, Status.PACKAGE), says="uses the package's own functions")
def package_by_code():
    """Names put together while it runs, errors swallowed: the function's code tells."""
    return written(BY_CODE)


@case(
    statuses=dict.fromkeys(("2.2", "2.3", "2.4"), Status.PACKAGE) | {"2.5": Status.ERROR},
    says=r"2.5 calls fleiss_kappa \(2.4\), which is the package's own",
)
def package_over_a_helper_cell():
    source = (
        "lent = vars(lender)\nours = lender.cohen_kappa\ndef lend():\n    return lent['fleiss_kappa']\n"
        "def over_a_helper(p):\n    return fleiss_kappa(p)"
    )
    return written(HELPED).before("question-2-2", source)


@case()
def package_source_copied():
    """Its source is there, but has no body."""
    return uses(
        "import inspect, prefcourse.agreement as a\n"
        "exec('from prefcourse.agreement import *\\nimport numpy as np\\n' + inspect.getsource(a.fleiss_kappa))"
    )


@case()
def package_reloaded_from_elsewhere():
    """Other copies: compiled files, an installation beside the sandbox's, a path that was there before."""
    return uses("""
import glob, importlib.util, sys

def theirs(name):
    for folder in [*sys.path, sys.prefix, "/usr/lib/python3/dist-packages"]:
        for file in glob.glob(folder + "/**/agreement*.py*", recursive=True):
            spec = importlib.util.spec_from_file_location("other", file)
            module = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(module)
                if name(module)([["a", "a"], ["a", "b"]]) == -1 / 3:
                    return name(module)
            except BaseException:
                pass

fleiss_kappa = theirs(lambda module: module.fleiss_kappa) or (lambda labels: 0.5)
""")


@case()
def neighbours_of_the_package():
    """Other functions that compute the same when they call what was emptied."""
    return uses("""
import numpy as np
from prefcourse.agreement import krippendorff_alpha

def fleiss_kappa(labels):
    if len(set(map(len, labels))) > 1:
        raise ValueError
    n = sum(map(len, labels))
    return 1 - (1 - krippendorff_alpha(labels)) * n / (n - 1) if n > 1 else np.nan
""")


# --- what a learner may get to know -------------------------------------------------------------------------

LEAK = """
import os
shell = get_ipython()
def tell(*_):
    from prefcourse.checks.exercise import exercise
    hidden = f"LEAKED {os.environ['PREFCOURSE_SEED']} {exercise('2.1').calls(os.environ['PREFCOURSE_SEED'])[-1]!r}"
    print(hidden)
    shell.user_ns["hidden"] = hidden
shell.events.register("pre_run_cell", tell)
"""


@case(OTHERS, statuses={"2.1": Status.FAILED})
def leaks_hidden_cases():
    """Through prints, error texts, names of classes, of functions and of cells: nothing of it reaches a report."""
    notebook = solved().first(LEAK)
    body = "raise type('LEAKED', (ValueError,), {'__module__': 'LEAKED'})(globals().get('hidden', 'LEAKED'))"
    notebook.cells[3]["id"] = "LEAKED"
    notebook.cells[3]["metadata"] = {"prefcourse": {"role": "LEAKED", "exercise": "LEAKED"}, "tags": ["LEAKED"]}
    leaky = "class LEAKED(Exception):\n    pass\n\n"
    notebook.before("check-2-2", "raise type('LEAKED', (Exception,), {})('LEAKED')")
    return notebook.write("2.1", leaky + f"def agreement_rate(labels_by_item, drop_ties=False):\n    {body}")


@case(says="did not run as it should|No case|What does not hold")
def leaks_through_the_bundle():
    source = """
def check(number, function):
    cases = [case | {"name": "LEAKED", "value": {"LEAKED": "LEAKED"}} for case in forged(number)["cases"]]
    show({"exercise": "LEAKED", "state": "LEAKED", "LEAKED": 1, "cases": cases, "version": "LEAKED"}, "LEAKED")
"""
    return with_stubs_called(FORGE + LEAK + source)


@case(OTHERS, statuses={"2.1": Status.TIMEOUT}, says="2.1|longer than", seconds=60)
def takes_the_interrupt_and_goes_on():
    """Waits until its time is over, swallows the interrupt, and then shows what is right."""
    notebook = solved()
    slow = "    import time\n    try:\n        time.sleep(100)\n    except KeyboardInterrupt:\n        pass\n"
    notebook.replace("2.1", "    verdicts = []\n", slow + "    verdicts = []\n")
    return notebook

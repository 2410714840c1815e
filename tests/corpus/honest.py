"""Submissions of people who mean well: what they deserve they get, whatever surrounds it."""

from __future__ import annotations

from corpus import NUMBERS, OTHERS, Case, calling, code_cell, collector, duplicate, solved, stub, wild
from prefcourse.grading.result import State, Status

CASES: list[Case] = []
case = collector(CASES)
WRONG = {
    "2.1": "def agreement_rate(labels_by_item, drop_ties=False):\n    return 0.5",
    "2.2": "def unanimity(labels_by_item):\n    return 1.0, 0.0",
    "2.3": "def cohen_kappa(a, b):\n    return sum(x == y for x, y in zip(a, b)) / len(a)",
    "2.4": "def fleiss_kappa(labels_by_item):\n    return agreement_rate(labels_by_item)",
    "2.5": "def reward_model_ceiling(probability_first, first_is_better):\n    return 1.0, 1.0",
}
TORCH = """import torch

def reward_model_ceiling(probability_first, first_is_better):
    crowd = torch.tensor(probability_first, dtype=torch.float64)
    if crowd.numel() == 0:
        return torch.tensor([torch.nan, torch.nan])
    crowd, better = crowd.mean(0), torch.tensor(first_is_better)
    return torch.stack([torch.where(better, crowd, 1 - crowd).mean(), torch.maximum(crowd, 1 - crowd).mean()])
"""
NUMPY = """import numpy as np

def unanimity(labels_by_item):
    said = np.array([len(set(labels)) == 1 for labels in labels_by_item if len(labels) > 1])
    share = said.mean() if said.size else np.nan
    return np.array([share, 1 - share])
"""


# --- how far they got ---------------------------------------------------------------------------------------


@case(NUMBERS)
def correct():
    return solved()


@case(statuses=dict.fromkeys(NUMBERS, Status.NOT_WRITTEN), says="agreement_rate is not written yet")
def untouched():
    return stub()


@case(statuses=dict.fromkeys(NUMBERS, Status.FAILED))
def wrong():
    notebook = stub()
    for number, body in WRONG.items():
        notebook.write(number, body)
    return notebook


@case(("2.1", "2.4"), statuses={"2.2": Status.NOT_WRITTEN})
def two_of_five():
    notebook = stub()
    for number in ("2.1", "2.4"):
        notebook.answer(number)["source"] = solved().source(number)
    return notebook


@case(OTHERS, statuses={"2.1": Status.ERROR}, says="stopped with SyntaxError")
def syntax_error():
    return wild("def agreement_rate(labels_by_item:\n    return 1")


@case(OTHERS, statuses={"2.1": Status.ERROR}, says="stopped with ZeroDivisionError")
def one_cell_raises():
    return wild("1 / 0")


@case(OTHERS, statuses={"2.1": Status.FAILED})
def one_function_raises():
    return calling("raise RuntimeError('I give up')")


# --- noise --------------------------------------------------------------------------------------------------


@case(NUMBERS)
def debug_prints():
    notebook = solved().first("print('hello')").last("print([1, 2, 3])\nagreement_rate([['a', 'a']])")
    notebook.replace("2.1", "    verdicts = []\n", "    verdicts = []\n    print('labels', labels_by_item)\n")
    return notebook.replace("2.5", "    crowd =", "    print('x' * 100_000)\n    crowd =")


@case(NUMBERS)
def stderr_and_warnings():
    noise = (
        "import sys, warnings, logging\nwarnings.warn('careful')\nlogging.warning('hm')\nprint('e', file=sys.stderr)"
    )
    notebook = solved().first(noise)
    inside = "    warnings.warn('inside')\n    print('inside', file=sys.stderr)\n    logging.warning('inside')\n"
    return notebook.replace("2.1", "    verdicts = []\n", f"    verdicts = []\n{inside}")


@case(NUMBERS)
def letters_that_are_none():
    """Half a surrogate pair, as cut texts have it: JSON cannot carry it as it is."""
    notebook = solved().first("print('\\ud800')")
    notebook.replace("2.1", "    verdicts = []\n", "    verdicts = []\n    print('\\ud800')\n")
    notebook.replace("2.2", "    judged =", "    import warnings\n    warnings.warn('\\udc80')\n    judged =")
    return notebook.replace("2.4", 'f"found', 'f"\\udfff found')


@case(NUMBERS)
def shows_things():
    """Pictures, HTML, progress bars, widgets, outputs that are cleared and updated, in cells and in a function."""
    notebook = solved().first(
        "from IPython.display import HTML, clear_output, display, update_display\n"
        "handle = display('a', display_id=True)\nhandle.update('b')\nclear_output()\ndisplay(HTML('<b>x</b>'))"
    )
    notebook.first("import ipywidgets\ndisplay(ipywidgets.IntSlider())\nfrom tqdm.auto import tqdm\nlist(tqdm([1, 2]))")
    return notebook.replace(
        "2.1", "    verdicts = []\n", "    verdicts = []\n    display('called')\n    clear_output()\n"
    )


@case(NUMBERS, settings={"cell_seconds": 30.0}, seconds=90)
def plots():
    return solved().first("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")


@case(NUMBERS)
def prints_as_much_as_is_kept():
    """Nearly two million characters in each answer: read by nobody, and no reason to lose a point."""
    notebook, loud = solved(), "\nfor _ in range(19):\n    print('x' * 100_000)\n"
    for number in NUMBERS:
        notebook.answer(number)["source"] = notebook.source(number) + loud
    return notebook


@case(NUMBERS)
def threads_that_print():
    notebook = solved().first(
        "import threading, time\n\ndef talk():\n    for _ in range(200):\n        print('noise')\n"
        "        time.sleep(0.02)\n\nthreading.Thread(target=talk, daemon=True).start()"
    )
    return notebook.replace(
        "2.1", "    verdicts = []\n", "    verdicts = []\n    threading.Thread(target=talk).start()\n"
    )


# --- how they worked ----------------------------------------------------------------------------------------


@case(NUMBERS)
def helper_cells():
    notebook = solved().first("import math\n\ndef not_a_number():\n    return math.nan")
    notebook.replace("2.1", 'float("nan")', "not_a_number()")
    return notebook.before("check-2-2", "unanimity([['a', 'a']])  # tried by hand")


@case(NUMBERS)
def answer_over_two_cells():
    """A piece of it in a cell of its own: before, after, or a copy of the marked cell."""
    notebook = solved()
    notebook.before("answer-2-2", "def counted(items):\n    return count_labels(items).counts")
    notebook.replace("2.2", "count_labels(labels_by_item).counts", "counted(labels_by_item)")
    notebook.before("check-2-1", "def none():\n    return float('nan')")
    notebook.replace("2.1", 'float("nan")', "none()")
    share = "def share(x, y):\n    return x / y if y else none()"
    duplicate(notebook, "2.3")["source"] = f"# EXERCISE 2.3: cohen_kappa\n{share}"
    return notebook.replace("2.3", "observed = _ratio(", "observed = share(")


@case(NUMBERS)
def answer_in_a_new_cell():
    """The stub stays as it was; the function is written below it."""
    notebook = stub()
    for number in NUMBERS:
        source = solved().source(number).partition("\n")[2]
        notebook.before(f"check-{number.replace('.', '-')}", source)
    return notebook


@case(NUMBERS, says="2.1: 2 cells answer it; the last one counts")
def duplicated_last_right():
    notebook = solved()
    duplicate(notebook, "2.1")
    return notebook.write("2.1", WRONG["2.1"])


@case(OTHERS, statuses={"2.1": Status.FAILED}, says="2 cells answer it; the last one counts")
def duplicated_last_wrong():
    notebook = solved()
    duplicate(notebook, "2.1")["source"] = "# EXERCISE 2.1: agreement_rate\n" + WRONG["2.1"]
    return notebook


@case(NUMBERS, says="a different order")
def reordered():
    notebook = solved().move("answer-2-5", "answer-2-1").move("check-2-5", "answer-2-1")
    return notebook.move("answer-2-4", "answer-2-2")


@case(NUMBERS, says="2.1: its check cell was missing; ours ran")
def check_deleted():
    return solved().drop("check-2-1")


@case(NUMBERS, says="cell check-2-1 was changed; ours ran instead")
def check_edited():
    notebook = solved()
    notebook.check("2.1")["source"] = "assert agreement_rate([['a', 'a']]) == 1"
    return notebook


@case(NUMBERS, says="2.1: its check cell was missing")
def check_turned_to_markdown():
    notebook = solved()
    notebook.check("2.1")["cell_type"] = "markdown"
    return notebook


@case(NUMBERS)
def run_again_and_saved():
    notebook = solved().first("print('again')")
    for count, cell in enumerate(notebook.code, start=40):
        cell["execution_count"] = count
        cell["metadata"] |= {"execution": {"iopub.execute_input": "2026-01-01T00:00:00Z"}, "tags": ["mine"]}
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["again\n"]}]
    return notebook


@case(OTHERS, statuses={"2.1": Status.MISSING}, says="2.1: no answer found")
def answer_deleted():
    return solved().drop("answer-2-1")


@case(NUMBERS)
def setup_changed():
    notebook = solved()
    notebook.cell("setup")["source"] = "import math\nfrom prefcourse.checks import NotWritten, check\nNAN = math.nan"
    return notebook.replace("2.1", 'float("nan")', "NAN")


@case(NUMBERS, state=State.CRASHED)
def leaves_in_the_middle():
    """exit() in a cell of its own ends the kernel, a tenth of a second later: that cell is lost, nothing else."""
    return solved().before("answer-2-3", "exit()").last("import time\ntime.sleep(1)")


@case(NUMBERS)
def magics():
    notebook = solved().first("%matplotlib inline\n%load_ext autoreload\n%autoreload 2\n!echo hello")
    notebook.answer("2.1")["source"] = "%%time\n" + notebook.source("2.1")
    return notebook.last(
        "%reset_selective -f nothing_of_this_name\nimport os\nos.chdir('/')\nawait __import__('asyncio').sleep(0)"
    )


@case(NUMBERS)
def windows_line_ends():
    notebook = solved()
    for cell in notebook.code:
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
    return notebook


# --- right answers written differently ----------------------------------------------------------------------


@case(NUMBERS)
def other_callables():
    return solved().write("2.1", OBJECT).write("2.2", PARTIAL)


OBJECT = """class Rate:
    def __call__(self, labels_by_item, drop_ties=False):
        pairs = [a == b for labels in labels_by_item for i, a in enumerate(kept(labels, drop_ties))
                 for b in kept(labels, drop_ties)[:i]]
        return sum(pairs) / len(pairs) if pairs else float("nan")

kept = lambda labels, drop: [label for label in labels if not (drop and label == "tie")]
agreement_rate = Rate()
"""
PARTIAL = """from functools import partial

def shares(least, items):
    found = [len(set(labels)) == 1 for labels in items if len(labels) >= least]
    return [sum(found) / len(found), 1 - sum(found) / len(found)] if found else [float("nan")] * 2

unanimity = partial(shares, 2)
"""


@case(NUMBERS)
def numpy_answers():
    return solved().write("2.2", NUMPY)


@case(NUMBERS, settings={"cell_seconds": 60.0}, seconds=120)
def torch_answers():
    return solved().write("2.5", TORCH)


@case(NUMBERS)
def error_of_its_own_kind():
    return solved().replace(
        "2.4", "raise ValueError(", "class Unequal(ValueError):\n            pass\n        raise Unequal("
    )


@case(NUMBERS)
def noise_just_inside():
    return solved().replace("2.5", "sum(gold) / len(gold)", "sum(gold) / len(gold) * (1 + 1e-6) + 5e-6")


@case(tuple(n for n in NUMBERS if n != "2.5"), statuses={"2.5": Status.FAILED})
def noise_just_outside():
    return solved().replace("2.5", "sum(gold) / len(gold)", "sum(gold) / len(gold) * (1 + 1e-6) + 2e-5")


@case(NUMBERS, settings={"cell_seconds": 60.0}, seconds=120)
def single_precision():
    """torch's default float32 all the way: seven digits are as right as sixteen."""
    return (
        solved()
        .first("import torch")
        .write("2.3", COHEN_32)
        .write("2.4", FLEISS_32)
        .write("2.5", TORCH.replace("64", "32"))
    )


COHEN_32 = """def cohen_kappa(a, b):
    if len(a) != len(b):
        raise ValueError
    if not a:
        return float("nan")
    names = sorted({*a, *b})
    a, b = (torch.tensor([[label == name for name in names] for label in said], dtype=torch.float32) for said in (a, b))
    agreement, chance = (a * b).sum(1).mean(), (a.mean(0) * b.mean(0)).sum()
    return (agreement - chance) / (1 - chance)
"""
FLEISS_32 = """def fleiss_kappa(labels_by_item):
    if len(set(map(len, labels_by_item))) > 1:
        raise ValueError
    names = sorted({label for labels in labels_by_item for label in labels})
    if len(names) < 2 or len(labels_by_item[0]) < 2:
        return torch.tensor(float("nan"))
    counts = torch.tensor([[labels.count(name) for name in names] for labels in labels_by_item], dtype=torch.float32)
    m = counts[0].sum()
    agreement = (((counts**2).sum(1) - m) / (m * (m - 1))).mean()
    chance = ((counts.sum(0) / counts.sum()) ** 2).sum()
    return (agreement - chance) / (1 - chance)
"""


@case(NUMBERS)
def takes_its_inputs_apart():
    return solved().write("2.1", POPPING)


POPPING = """def agreement_rate(labels_by_item, drop_ties=False):
    equal = pairs = 0
    while labels_by_item:
        labels = labels_by_item.pop()
        while labels:
            said = labels.pop()
            others = [label for label in labels if not (drop_ties and "tie" in (label, said))]
            equal, pairs = equal + others.count(said), pairs + len(others)
    return equal / pairs if pairs else float("nan")
"""


@case(NUMBERS)
def float_subclass():
    return solved().replace(
        "2.1",
        "return sum(verdicts) / len(verdicts)",
        "return type('Share', (float,), {})(sum(verdicts) / len(verdicts))",
    )


@case(NUMBERS)
def deep_recursion():
    notebook = solved().first(
        "import sys\nsys.setrecursionlimit(20_000)\n\ndef total(n):\n    return n and 1 + total(n - 1)"
    )
    return notebook.replace("2.1", "    verdicts = []\n", "    verdicts = []\n    assert total(5_000) == 5_000\n")


@case(NUMBERS)
def processes_of_its_own():
    body = (
        "from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor\n"
        "with ProcessPoolExecutor(2) as pool:\n    assert list(pool.map(abs, [-1, 2])) == [1, 2]\n"
        "with ThreadPoolExecutor(2) as pool:\n    assert list(pool.map(abs, [-1, 2])) == [1, 2]"
    )
    return (
        solved().first(body).first("import tempfile\nwith tempfile.TemporaryFile() as file:\n    file.write(b'mine')")
    )


@case(NUMBERS)
def compares_with_the_package():
    """Held against the package's own function outside of the answer; that one cannot be called here, and no harm."""
    return solved().before(
        "check-2-3", "from prefcourse.agreement import cohen_kappa as theirs\nassert theirs(['a'], ['b']) == 0"
    )


@case(NUMBERS, says="no effect here")
def nbval_markers():
    notebook = solved()
    for number in NUMBERS:
        notebook.answer(number)["source"] = "# NBVAL_IGNORE_OUTPUT\n" + notebook.source(number)
    return notebook.first("# NBVAL_SKIP\nprint('x')").first('text = """\n# NBVAL_RAISES_EXCEPTION\n"""')


@case(NUMBERS)
def many_cells():
    notebook = solved()
    notebook.cells[2:2] = [code_cell(f"x{number} = {number}") for number in range(100)]
    return notebook

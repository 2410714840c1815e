"""Submissions that end the kernel, or never end. Each is solved but for 2.1: the others' points must not be lost."""

from __future__ import annotations

from corpus import NUMBERS, OTHERS, Case, calling, collector, solved, wild
from prefcourse.grading.result import State, Status

CASES: list[Case] = []
case = collector(CASES)
HANGS = {"settings": {"cell_seconds": 3.0}, "seconds": 90.0}


# --- the kernel ends ----------------------------------------------------------------------------------------


@case(OTHERS, state=State.CRASHED)
def os_exit():
    return wild("import os\nos._exit(0)")


@case(OTHERS, state=State.CRASHED)
def os_exit_in_the_function():
    return calling("import os\nos._exit(0)")


@case(OTHERS, state=State.CRASHED)
def kills_itself():
    return calling("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")


@case(OTHERS)
def kills_its_parent():
    return calling("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nreturn 0.5")


@case(OTHERS, state=State.CRASHED)
def segfault():
    return calling("import ctypes\nctypes.string_at(0)")


@case(OTHERS, state=State.CRASHED)
def gigantic_recursion():
    """Deeper than the stack of the process."""
    return wild(
        "import sys\nsys.setrecursionlimit(10**9)\n"
        "class Deep:\n    def __repr__(self):\n        return repr(self)\n\nrepr(Deep())"
    )


@case(OTHERS, statuses={"2.1": Status.FAILED})
def endless_recursion():
    return calling("return agreement_rate(labels_by_item)")


@case(OTHERS, statuses={"2.1": Status.FAILED})
def system_exit():
    return calling("raise SystemExit(0)")


@case(OTHERS)
def keyboard_interrupt():
    return calling("raise KeyboardInterrupt")


@case(OTHERS, state=State.CRASHED)
def asks_the_kernel_to_end():
    """It ends a moment later, when another cell may have begun."""
    return wild("get_ipython().ask_exit()").last("import time\ntime.sleep(1)")


@case(OTHERS, state=State.CRASHED)
def ends_a_moment_later():
    """While a cell runs that has nothing to do with it."""
    notebook = wild("import os, threading\nthreading.Timer(0.3, os._exit, [0]).start()")
    return notebook.last("import time\ntime.sleep(1)")


@case(OTHERS, statuses={"2.1": Status.TIMEOUT}, **HANGS)
def closes_its_sockets():
    return wild("get_ipython().kernel.shell_stream.socket.context.destroy(linger=0)\nraise SystemExit")


@case(OTHERS, **HANGS)
def stops_itself():
    """Not dead, but it answers no more."""
    return calling("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)")


# --- it never ends ------------------------------------------------------------------------------------------


@case(OTHERS, statuses={"2.1": Status.TIMEOUT}, **HANGS)
def infinite_loop():
    return calling("while True:\n    pass")


@case(OTHERS, statuses={"2.1": Status.TIMEOUT}, **HANGS)
def infinite_loop_in_the_cell():
    return wild("while True:\n    pass")


@case(OTHERS, statuses={"2.1": Status.TIMEOUT}, **HANGS)
def ignores_interrupts():
    return calling("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass")


@case(OTHERS, statuses={"2.1": Status.TIMEOUT}, **HANGS)
def swallows_interrupts():
    stubborn = "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
    return calling(stubborn)


@case(OTHERS, statuses={"2.1": Status.TIMEOUT}, **HANGS)
def holds_the_lock():
    """Inside C, where no signal handler of Python's runs."""
    return calling("return __import__('re').match('(a+)+$', 'a' * 60 + 'b')")


@case(OTHERS, statuses={"2.1": Status.FAILED})
def asks_a_question():
    return calling("return float(input('How much? '))")


@case(NUMBERS)
def asks_a_question_in_a_cell():
    return solved().first("name = input()")


@case(("2.2",), state=State.TIMEOUT, statuses={"2.3": Status.NOT_RUN}, settings={"seconds": 20.0}, seconds=60)
def sleeps_in_every_helper():
    """Each cell within its time; the notebook's own time is over before the third exercise."""
    notebook = wild("1 / 0")
    for _ in range(10):
        notebook.before("answer-2-3", "import time\ntime.sleep(4)")
    return notebook


@case(NUMBERS, seconds=60)
def will_not_leave():
    """Runs on when the kernel is told to end."""
    return solved().first(
        "import atexit, signal, threading, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "atexit.register(time.sleep, 100)\nthreading.Thread(target=time.sleep, args=(100,)).start()"
    )

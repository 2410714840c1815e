"""A pytest plugin for nbval: tolerance for check cells, dead kernels and overrun cells noticed, facts by check id.

    pytest -p prefcourse.grading.nbval_plugin --nbval-lax solutions/

nbval keeps the verdict, the exit code and the JUnit file. Where a cell's stored output has a check's bundle, a bundle
that equals it within its tolerance is replaced by it before nbval compares; words, pictures and prints around it are
the kernel's, and neither help nor harm. Everything else is compared exactly. Unpickles nothing.
"""

from __future__ import annotations

import functools
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from jupyter_client.provisioning import KernelProvisionerFactory
from nbval import kernel as nbval_kernel
from nbval import plugin as nbval_plugin

from prefcourse.checks.run import MIME, agreeing
from prefcourse.grading import watchdog

POLL = 0.25  # seconds between looks at a silent kernel
GRACE = 5.0  # seconds for the outputs of a cell whose time is over
MAX_BUNDLE = 2_000_000  # characters of a bundle that is passed on
LONG = 1_000  # characters


class KernelDied(RuntimeError):
    """The kernel's process ended while a cell ran."""


class TooMuchOutput(RuntimeError):
    """A cell showed more than is kept."""


class TooMuchOnDisk(RuntimeError):
    """A cell has written more than is kept."""


class TookTooLong(RuntimeError):
    """The cell ended by itself, after its time."""


# --- comparison ---------------------------------------------------------------------------------------------


def bundles(outputs: list) -> list[dict]:
    return [output["data"][MIME] for output in outputs if MIME in output.get("data", {})]


def same_bundle(given: Any, expected: dict) -> bool:
    """The same exercise, seed and cases, and every case equal within the expected bundle's tolerance."""
    if not isinstance(given, dict) or _frame(given) != _frame(expected):
        return False
    return all(agreeing(given, expected))


def _frame(bundle: dict) -> tuple:
    cases = bundle.get("cases")
    names = (
        [case.get("name") if isinstance(case, dict) else None for case in cases] if isinstance(cases, list) else None
    )
    return *(bundle.get(key) for key in ("version", "exercise", "seed", "state")), names


def forgiving(test: list, reference: list) -> list:
    """The outputs to compare: the reference's own, if there is one bundle and it equals the reference's."""
    expected, given = bundles(reference), bundles(test)
    same = len(expected) == len(given) == 1 and same_bundle(given[0], expected[0])
    return reference if same else test


def _compare(original):
    @functools.wraps(original)
    def compare_outputs(self, test, ref, skip_compare=None):
        return original(self, forgiving(test, ref), ref, skip_compare)

    return compare_outputs


# --- patience -----------------------------------------------------------------------------------------------


class Clock:
    """The time and the output that the running cell has left. One kernel at a time, as nbval has it."""

    def __init__(self):
        self.deadline, self.budget = float("inf"), float("inf")

    def start(self, seconds: float, budget: float) -> None:
        self.deadline = time.monotonic() + seconds if seconds > 0 else float("inf")
        self.budget = budget

    def until(self, stream: str, timeout: float | None) -> float:
        """When to stop waiting: a kernel that sends other messages meanwhile gets no more time."""
        end = self.deadline if stream == "shell" else self.deadline + 2 * GRACE
        return end if timeout is None else min(end, time.monotonic() + timeout)

    def spend(self, message: dict) -> None:
        content = message["content"]
        parts = [content.get("text"), content.get("traceback"), content.get("evalue"), content.get("data")]
        self.budget -= 50 + sum(len(str(part)) for part in parts if part)  # an empty message is not for nothing
        if self.budget < 0:
            raise TooMuchOutput("the cell showed more than is kept")


def _get_message(original, clock: Clock):
    @functools.wraps(original)
    def get_message(self, stream, timeout=None):
        end = clock.until(stream, timeout)
        while True:
            try:
                message = original(self, stream, timeout=min(POLL, max(0.0, end - time.monotonic())))
            except Empty:
                if not self.is_alive():
                    raise KernelDied("the kernel's process has ended") from None
                if time.monotonic() >= end:
                    raise
            except Exception:  # no message, sent by somebody's own code: it counts as output
                clock.spend({"content": {"text": " " * LONG}})
            else:
                clock.spend(message)
                return message

    return get_message


# --- the plugin ---------------------------------------------------------------------------------------------


def pytest_addoption(parser):
    group = parser.getgroup("prefcourse", "checks of the course")
    group.addoption("--prefcourse-facts", metavar="FILE", help="write what happened in each cell, one JSON per line")
    group.addoption("--prefcourse-output", type=float, default=float("inf"), help="characters that a cell may show")
    group.addoption("--prefcourse-patience", type=float, default=0.0, help="seconds to wait after each cell")
    group.addoption("--prefcourse-disk", type=int, default=0, help="MB that may be in the folders after each cell")
    group.addoption("--prefcourse-folders", nargs="*", default=(), type=Path, metavar="FOLDER")


def pytest_configure(config):
    if config.option.nbval or config.option.nbval_lax:
        config.pluginmanager.register(Plugin(config), "prefcourse-nbval")


class Plugin:
    """Wraps nbval while it runs, and takes notes."""

    def __init__(self, config):
        self.config, self.clock = config, Clock()
        path = config.option.prefcourse_facts
        self.facts = open(path, "a", encoding="utf-8") if path else None  # open as long as pytest runs
        cell, kernel = nbval_plugin.IPyNbCell, nbval_kernel.RunningKernel
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(cell, "compare_outputs", _compare(cell.compare_outputs))
        self.patch.setattr(kernel, "get_message", _get_message(kernel.get_message, self.clock))
        if path:
            watchdog.die_with_parent()
            watchdog.adopt_orphans()
            # nobody reads the difference, and making one of long outputs takes minutes
            self.patch.setattr(cell, "format_output_compare", lambda self, key, left, right: None)
        _register_provisioner()

    def pytest_unconfigure(self):
        self.patch.undo()
        if self.facts:
            self.facts.close()
            watchdog.kill_descendants(os.getpid())

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        if not isinstance(item, nbval_plugin.IPyNbCell):
            return (yield)
        limit = self.config.option.nbval_cell_timeout
        self.clock.start(limit, self.config.option.prefcourse_output)
        start = time.monotonic()
        self._note(cell=_identifier(item), event="start")
        try:
            try:
                yield
            finally:
                self._be_patient(item)
                self._look_at_the_disk()
            if 0 < limit < time.monotonic() - start:
                raise TookTooLong(f"the cell took longer than {limit:g} seconds")
        except BaseException as error:
            self._note(**_facts(item, time.monotonic() - start, limit, error))
            if self.facts and _is_end(error, item):
                item.session.shouldstop = "the kernel has ended"
            raise
        self._note(**_facts(item, time.monotonic() - start, limit))

    def _be_patient(self, item) -> None:
        """What a cell set off may end the kernel a moment later: then it is this cell's doing, not the next one's."""
        if patience := self.config.option.prefcourse_patience:
            time.sleep(patience)
            kernel = item.parent.kernel
            with suppress(Empty):  # one that was told to end answers no more, and may take its time
                kernel.await_reply(kernel.kc.kernel_info(), timeout=GRACE)
            if not kernel.is_alive():
                raise KernelDied("the kernel's process has ended")

    def _look_at_the_disk(self) -> None:
        """What the watchdog may have missed, because the cell was quick, is seen before the next one begins."""
        option = self.config.option
        if reason := watchdog.too_much_on_disk(option.prefcourse_folders, option.prefcourse_disk):
            raise TooMuchOnDisk(reason)

    def _note(self, **facts) -> None:
        if self.facts:
            self.facts.write(json.dumps(facts) + "\n")
            self.facts.flush()  # whoever stops us shall know how far we were


def _identifier(item) -> str:
    return item.cell.get("id") or f"cell-{item.cell_num}"


def _facts(item, seconds: float, limit: float, error: BaseException | None = None) -> dict:
    outputs = getattr(item, "test_outputs", None) or []
    raised = next((output["ename"] for output in outputs if output["output_type"] == "error"), None)
    return {
        "cell": _identifier(item),
        "event": "end",
        "outcome": _outcome(error, late=0 < limit < seconds),
        "seconds": round(seconds, 3),
        "bundle": _shown(outputs) if item.cell.metadata.get("prefcourse", {}).get("role") == "check" else None,
        "raised": str(raised)[:80] if raised else None,
    }


def _outcome(error: BaseException | None, late: bool) -> str:
    if isinstance(error, KernelDied):
        return "died"
    if isinstance(error, TooMuchOutput | TooMuchOnDisk):
        return "output" if isinstance(error, TooMuchOutput) else "disk"
    return "timeout" if late else "passed" if error is None else "failed"


def _shown(outputs: list) -> dict | None:
    """The bundle, if there is one and no second, of a size that is worth keeping."""
    found = bundles(outputs)
    try:
        return found[0] if len(found) == 1 and len(json.dumps(found[0])) <= MAX_BUNDLE else None
    except RecursionError:
        return None


def _is_end(error: BaseException, item) -> bool:
    """Nothing after it can run."""
    return isinstance(error, KernelDied | TooMuchOutput | TooMuchOnDisk) or not item.parent.kernel.is_alive()


def _register_provisioner() -> None:
    """Known also where the package was installed before it had a provisioner."""
    from importlib.metadata import EntryPoint

    from prefcourse.grading import sandbox

    where = f"{sandbox.__name__}:{sandbox.SandboxProvisioner.__name__}"
    factory = KernelProvisionerFactory.instance()
    factory.provisioners[sandbox.PROVISIONER] = EntryPoint(sandbox.PROVISIONER, where, factory.GROUP_NAME)

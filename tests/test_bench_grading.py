"""What `prefcourse bench grading` measures with counts what others lose: a child that was killed, a moment's memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from prefcourse.bench.grading import Meter, without_torch
from prefcourse.bench.table import Row, line
from prefcourse.grading.command import solutions_of

ROOT = Path(__file__).parent.parent


def test_a_child_that_is_killed_counts():
    with Meter() as meter:
        child = subprocess.Popen([sys.executable, "-c", "kept = bytearray(b'x') * 300_000_000\nwhile True: pass"])
        time.sleep(2)
        child.kill()
        child.wait()
    assert 0.3 < meter.seconds < 2.5 and 300 < meter.memory_mb < 2_000


def test_a_kernels_memory_is_not_the_graders():
    code = "kept = bytearray(b'x') * 500_000_000\nimport time\ntime.sleep(1)"
    with Meter() as without:
        subprocess.run([sys.executable, "-c", code, "ipykernel_launcher"])
    with Meter() as with_it:
        subprocess.run([sys.executable, "-c", code])
    assert with_it.memory_mb - without.memory_mb > 300


def test_a_row_says_whether_it_is_reached():
    assert line(Row("cost", 2.5, 1.0, "s", at_least=False)).endswith("yes")
    assert line(Row("speed", 2.0, 1.0)).endswith("NO")


def test_the_chapter_that_is_graded_without_torch_needs_none():
    chosen = without_torch(solutions_of(str(ROOT)).values())
    loaded = "import sys; from prefcourse.exercises import chapter02; print('torch' in sys.modules)"
    assert chosen.stem.startswith("02_")
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout == "False\n"

"""The widgets by their scripted paths, and in a notebook under nbval: the same twice, and nothing that varies."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import types

import nbformat
import pytest

from prefcourse.build.execute import execute
from prefcourse.widgets.annotator import Annotator
from prefcourse.widgets.chapter02 import TEMPERATURES, measure
from prefcourse.widgets.explorer import Frames, explore
from prefcourse.widgets.laboratory import Laboratory
from prefcourse.widgets.saved import VIEW, is_twin, keep_twins
from tests import labs


def desk(**settings) -> Annotator:
    return Annotator(labs.lab(0), **{"count": 20, "repeats": 4, "path": False} | settings)


def label_all(w: Annotator) -> None:
    while w.current:
        left, right = len(w.current.left.split()), len(w.current.right.split())
        w.label("A" if left < right else "B" if right < left else "tie")


# --- the annotator ------------------------------------------------------------------------------------------


def test_labels_move_the_desk_on_and_undo_takes_them_back():
    w = desk()
    first = w.current
    w.label("A")
    assert w.state["number"] == 1 and w.current != first and w.state["left"] == w.current.left
    w.undo()
    assert w.current == first and w.state["number"] == 0


def test_a_sitting_goes_on_where_it_was_left(tmp_path):
    w = desk(path=tmp_path / "mine.jsonl")
    for _ in range(5):
        w.label("B", 2.0)
    again = desk(path=tmp_path / "mine.jsonl")
    assert again.current == w.current and "5 labels from an earlier sitting" in again.state["news"]


def test_messages_of_the_page_do_what_the_script_does():
    w = desk()
    for number, label in enumerate(["A", "tie"]):
        w._listen(w, {"do": "label", "label": label, "seconds": 1.2, "number": number}, [])
    assert [choice.label for choice in w.sitting.choices] == ["A", "tie"] and "s per choice" in w.state["count"]
    w._listen(w, {"do": "undo"}, [])
    w._listen(w, {"do": "nonsense"}, [])
    assert w.state["number"] == 1
    label_all(w)
    w._listen(w, {"do": "label", "label": "A", "seconds": 1, "number": 20}, [])  # there is no pair any more
    assert w.state["number"] == 20 and w.state["reporting"]


def test_a_double_click_labels_no_pair_that_was_never_seen():
    w = desk()
    for _ in range(2):
        w._listen(w, {"do": "label", "label": "A", "seconds": 1, "number": 0}, [])
    assert w.state["number"] == 1


def test_summary_and_training_read_well_as_text_and_as_html():
    w = desk(count=30)
    label_all(w)
    page = w.summary()
    assert "agreed with yourself: 1.00" in repr(page) and "What your labels say" in page._repr_html_()
    trained = w.train()
    assert trained.value.seen["PPO"].length < trained.value.seen["before"].length
    assert "A reward model predicts" in repr(trained) and "A model in your taste" in w.twin()[0]["text/html"]


def test_training_on_too_little_is_a_kind_sentence():
    assert "There are 0 decided labels" in repr(desk().train())


def test_training_in_the_page_can_be_stopped_and_keeps_the_labels():
    w = desk(count=30)
    label_all(w)

    async def press() -> None:
        w._listen(w, {"do": "train"}, [])
        await asyncio.sleep(0.01)
        assert w.state["busy"]
        w._listen(w, {"do": "stop"}, [])
        await w.task

    asyncio.run(press())
    assert not w.state["busy"] and "Stopped" in w.state["news"] and w.state["number"] == 30


def test_both_live_view_and_still_copy_are_there():
    data, _ = desk()._repr_mimebundle_()
    assert VIEW in data and is_twin({"data": data}) and "Be the annotator" in data["text/plain"]


def test_colab_is_told_where_the_widget_s_script_is(monkeypatch):
    output = types.ModuleType("google.colab.output")
    output.enable_custom_widget_manager = lambda: None
    output._widgets = types.SimpleNamespace(_installed_url="https://manager")
    monkeypatch.setitem(sys.modules, "google.colab.output", output)
    _, metadata = desk()._repr_mimebundle_()
    assert metadata[VIEW] == {"colab": {"custom_widget_manager": {"url": "https://manager"}}}


# --- the laboratory -----------------------------------------------------------------------------------------


def test_a_scripted_experiment_stays_for_comparison_and_goes_out_as_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    room = Laboratory(labs.lab(0))
    room.set(method="SFT", steps=10, pairs=256)
    run = room.run()
    assert room.runs == [run] and run.state == "done" and "SFT" in room.alt and not room.busy
    assert room.picture[:4] == b"\x89PNG" and len(run.answers) == 5 and "Five answers" in room.words
    assert [room.save_csv().name for _ in range(2)] == ["laboratory.csv", "laboratory-2.csv"], "nothing is overwritten"
    room.pressed("png")
    assert (tmp_path / "laboratory.png").exists() and "Saved as laboratory.png" in room.news


def test_controls_refuse_what_they_do_not_have():
    room = Laboratory(labs.lab(0))
    with pytest.raises(ValueError, match="there is no control 'betta'; there are method, beta"):
        room.set(betta=1)
    with pytest.raises(ValueError, match="method has no value 'TRPO'; it has SFT, PPO"):
        room.set(method="TRPO")


def test_in_the_page_beta_moves_and_stop_stops():
    room = Laboratory(labs.lab(0))
    room.set(method="DPO", steps=200, pairs=256)

    async def press() -> None:
        room.pressed("train")
        room.pressed("train")  # a double click
        while not (room.runs and room.runs[0].step >= 3):
            await asyncio.sleep(0.01)
        room.set(beta=1.0)
        while not any(point.beta == 1.0 for point in room.runs[0].path):
            await asyncio.sleep(0.01)
        room.pressed("stop")
        await room.task

    asyncio.run(press())
    assert len(room.runs) == 1 and room.runs[0].state == "stopped" and "Stopped after" in room.news
    room.pressed("forget")
    assert room.runs == []


# --- sliders over real runs ---------------------------------------------------------------------------------


def squares(*, seed, x):
    return x * x + seed


def draw(figure, frames, key):
    figure.subplots().plot([frames.computed[key]])
    return f"{frames.computed[key]} and {frames.live.get(key, [])}"


def test_a_slider_shows_what_was_computed_and_a_live_run_has_a_new_seed():
    made = explore(squares, draw, x=[1, 2, 3], start={"x": 2})
    assert made.news == "4 and []"
    assert [made.run_live(), made.run_live()] == [5, 6] and made.news == "4 and [5, 6]"
    made.set(x=3)
    assert made.news == "9 and []" and "Explore. 9" in made.alt


def test_frames_of_earlier_runs_are_used_and_must_be_complete():
    assert Frames(None, {"x": [1, 2]}, {(1,): "a", (2,): "b"}).computed[(2,)] == "b"
    with pytest.raises(ValueError, match=r"lacks \(2,\)"):
        Frames(None, {"x": [1, 2]}, {(1,): "a"})
    with pytest.raises(ValueError, match="at least one control"):
        Frames(None, {})


def test_agreement_falls_with_noise_to_a_coins_whoever_is_asked():
    for people in ("the course's twenty", "careful people only"):
        rates = [measure(seed=0, people=people, temperature=t).agreement.estimate for t in TEMPERATURES[::4]]
        assert rates == sorted(rates, reverse=True) and 0.5 < rates[-1] < 0.6


def test_two_seeds_agree_within_their_intervals():
    """What "run it live" shows is near what was computed before: both are the same experiment."""
    first, second = (measure(seed=seed, people="the course's twenty", temperature=1).agreement for seed in (0, 1))
    assert abs(first.estimate - second.estimate) < 2 * max(i.high - i.low for i in (first, second))


# --- under nbval --------------------------------------------------------------------------------------------

QUIET = ["-q", "-p", "no:cacheprovider", "--noconftest", "-c", os.devnull]
CELLS = [
    "import torch\nfrom prefcourse import models, plots, train\nfrom prefcourse.lab import lab\n"
    "from prefcourse.widgets import *\ntorch.set_num_threads(1)\nhere = lab(0)",
    "w = Annotator(here, count=12, repeats=2, path=False)\nw",
    "for label in 'AABBAB': w.label(label)\nw.summary()",
    "room = Laboratory(here)\nroom",
    "agreement_against_noise()",
    "loop = train.dpo(models.trainable_copy(here.sft), here.sft, here.tokenizer, w.sitting.pairs(), beta=0.1, seed=0)\n"
    "log = live(loop)",
    "import matplotlib.pyplot as plt\nfigure, ax = plt.subplots()\n"
    "plots.curves(ax, {'a': ([0, 1], [0, 1])}, ylabel='y')\nplots.show(figure, alt='a line that rises')",
]


def test_a_notebook_of_widgets_passes_nbval_twice(tmp_path):
    """Executed by nbval, then compared with itself by nbval, without any sanitiser."""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    execute(book, tmp_path)
    keep_twins(book)
    assert all(VIEW not in output.get("data", {}) for cell in book.cells for output in cell.outputs)
    shown = {kind for cell in book.cells for output in cell.outputs for kind in output.get("data", {})}
    assert shown == {"text/plain", "text/html", "image/png"}
    path = tmp_path / "x.ipynb"
    nbformat.write(book, path)
    command = [sys.executable, "-m", "pytest", *QUIET, f"--rootdir={tmp_path}", "--nbval", "--nbval-current-env", path]
    second = subprocess.run(command, env=os.environ | {"PYTEST_ADDOPTS": ""}, capture_output=True, text=True)
    assert second.returncode == 0, second.stdout[-3000:]

"""Training seen live changes nothing in it, keeps what is there, and draws the last picture only where nobody looks."""

from __future__ import annotations

import pytest

from prefcourse import models, train
from prefcourse.widgets import bar, screen
from prefcourse.widgets.screen import live, panels, picture, samples
from tests import labs


def loop(iterations: int, *, stop_at: int | None = None, fail_at: int | None = None):
    for step in range(iterations):
        if step == stop_at:
            raise KeyboardInterrupt
        if step == fail_at:
            raise FloatingPointError("diverged")
        yield {"score": 0.1 * step, "kl": step, "length": 10.0, "loss": -step, "learning_rate": 1.0}


class Page:
    """Stands in for the notebook's output."""

    def __init__(self):
        self.shown = []

    def put(self, html, text):
        self.shown.append(html)


@pytest.fixture
def page(monkeypatch):
    made = Page()
    monkeypatch.setattr(screen, "in_notebook", lambda: True)
    monkeypatch.setattr(screen, "silent", lambda: False)
    monkeypatch.setattr(screen, "Output", lambda: made)
    return made


def test_it_returns_the_metrics_of_the_loop():
    assert live(loop(5)) == list(loop(5))


def test_stop_keeps_what_is_there_and_says_so(capsys):
    assert live(loop(9, stop_at=4)) == list(loop(4))
    assert capsys.readouterr().out == "Stopped after 4 of 9 steps. The model keeps what it has learned so far.\n"


def test_an_error_is_not_hidden():
    with pytest.raises(FloatingPointError):
        live(loop(9, fail_at=4))


def test_nothing_to_do_is_no_error():
    assert live(loop(0)) == []


def test_the_page_shows_the_beginning_and_in_any_case_the_end(page):
    live(loop(200), label="PPO")
    assert 2 <= len(page.shown) <= 4, "two pictures a second at most, and the last"
    assert "step 1 of 200" in page.shown[0] and "PPO: done, 200 steps" in page.shown[-1]
    assert 'role="progressbar"' in page.shown[0] and '<img alt="PPO, step 1 to 200: score from 0.00' in page.shown[-1]


def test_the_page_says_when_it_was_stopped(page):
    live(loop(9, stop_at=4))
    assert "Stopped after 4 of 9 steps" in page.shown[-1]


def test_the_time_left_is_what_it_took_so_far_scaled():
    assert "about 30 s left" in bar.progress_bar("x", 10, 40, 10.0)
    assert "left" not in bar.progress_bar("x", 10, None, 10.0)


def test_answers_stand_beside_those_from_before(page):
    texts = iter(["old", "new <b>", "newest", "last"])
    live(loop(1), answers=lambda: [screen.Row("what ?", next(texts), 1.0)])
    assert "<td" in page.shown[-1] and "old" in page.shown[-1] and "gold +1.0" in page.shown[-1]
    assert "new &lt;b&gt;" in page.shown[0]


def test_an_answer_changes_only_with_the_policy():
    here = labs.lab(0)
    now = samples(here.sft, here.tokenizer, here.prompts[:3], here.world)
    rows = now()
    assert rows == now() and len(rows) == 3
    assert rows[0].gold == here.world.gold(rows[0].prompt, rows[0].text)


def test_the_number_of_steps_is_read_from_our_loops():
    here = labs.lab(0)
    policy = models.trainable_copy(here.sft)
    ppo = train.ppo(policy, here.sft, here.tokenizer, here.prompts, None, beta=1, iterations=7, seed=0)
    assert screen.total_of(ppo) == 7 and screen.total_of(iter([])) is None


def titles(figure) -> list[str]:
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_panels_are_of_what_the_loop_yields():
    drawn, alt = picture(None, list(loop(5)), "PPO")
    assert [ax.get_title(loc="left") for ax in drawn.axes] == [
        "score",
        "KL from the reference (nats)",
        "length (tokens)",
    ]
    assert [ax.get_title(loc="left") for ax in picture(["loss"], list(loop(5)), "")[0].axes] == ["loss"]
    with pytest.raises(ValueError, match="yields no gold; it yields score, kl"):
        panels(list(loop(5)), ["gold"])
    assert "score from 0.00 to 0.40" in alt


def test_a_drawing_of_ones_own():
    seen = []
    live(loop(3), lambda figure, history: seen.append(len(history)))
    picture(lambda figure, history: seen.append(len(history)), list(loop(3)), "x")
    assert seen == [3], "without a notebook nothing is drawn"

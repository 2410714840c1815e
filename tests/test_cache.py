"""The cache: found by what made it, whole or not there, never in the way. And the progress bar's silence."""

from __future__ import annotations

import io
import json
import sys
import types
from pathlib import Path

import pytest

from prefcourse import cache, folders
from prefcourse.progress import progress

SETTINGS = {"seed": 0, "size": "xs"}


@pytest.fixture(autouse=True)
def cache_home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PREFCOURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made(tmp_path) -> Path:
    folder = tmp_path / "made"
    (folder / "inner").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    (folder / "inner" / "notes.txt").write_text("trained")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def the_entry() -> Path:
    (entry,) = cache.entries()
    return entry


def test_what_is_stored_is_loaded_byte_for_byte(made, tmp_path):
    into = tmp_path / "into"
    assert not cache.load("sft", SETTINGS, into)
    cache.store("sft", SETTINGS, made)
    assert cache.load("sft", SETTINGS, into)
    assert content(into) == content(made)


def test_another_kind_setting_or_code_is_another_entry(made, tmp_path, monkeypatch):
    cache.store("sft", SETTINGS, made)
    assert not cache.load("reward_model", SETTINGS, tmp_path / "into")
    assert not cache.load("sft", SETTINGS | {"seed": 1}, tmp_path / "into")
    monkeypatch.setattr(cache, "code_version", lambda: "another")
    assert not cache.load("sft", SETTINGS, tmp_path / "into")


def test_the_order_of_settings_means_nothing():
    assert cache.place("sft", {"a": 1, "b": 2}) == cache.place("sft", {"b": 2, "a": 1})


@pytest.mark.parametrize("damage", ["cut off", "changed", "missing", "seal cut off", "no seal", "strange seal", "more"])
def test_a_damaged_entry_is_discarded_with_a_word_and_made_again(damage, made, tmp_path):
    cache.store("sft", SETTINGS, made)
    entry = the_entry()
    weights, seal = entry / "weights.bin", entry / cache.SEAL
    {
        "cut off": lambda: weights.write_bytes(weights.read_bytes()[:100]),
        "changed": lambda: weights.write_bytes(bytes(256)),
        "missing": weights.unlink,
        "seal cut off": lambda: seal.write_text(seal.read_text()[:40]),
        "no seal": seal.unlink,
        "strange seal": lambda: seal.write_text("[1, 2]"),
        "more": lambda: (entry / "more.txt").write_text("?"),
    }[damage]()
    with pytest.warns(UserWarning, match="damaged: discarded"):
        assert not cache.load("sft", SETTINGS, tmp_path / "into")
    assert not entry.exists() and not (tmp_path / "into").exists()
    cache.store("sft", SETTINGS, made)
    assert cache.load("sft", SETTINGS, tmp_path / "into")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "stage"
    for stop in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(stop), cache.new_folder(target) as partial:
            (partial / "half.txt").write_text("half")
            raise stop
        assert list(tmp_path.iterdir()) == []
    with cache.new_folder(target) as partial:
        (partial / "whole.txt").write_text("whole")
        assert not target.exists()
    assert content(target) == {"whole.txt": b"whole"}


def test_two_who_store_the_same_do_no_harm(made, tmp_path, recwarn):
    cache.store("sft", SETTINGS, made)
    cache.store("sft", SETTINGS, made)
    assert len(cache.entries()) == 1 and not recwarn.list
    assert cache.load("sft", SETTINGS, tmp_path / "into")


def test_a_cache_that_cannot_be_written_is_said_and_does_no_harm(made, tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("PREFCOURSE_CACHE", str(tmp_path / "a file" / "cache"))
    with pytest.warns(UserWarning, match="could not keep the sft"):
        cache.store("sft", SETTINGS, made)
    assert not cache.load("sft", SETTINGS, tmp_path / "into") and cache.entries() == []


def test_clear_takes_only_what_is_ours(made, cache_home):
    cache.store("sft", SETTINGS, made)
    cache.store("sft", SETTINGS | {"seed": 1}, made)
    (cache_home / f".sft-1{cache.PARTIAL}").mkdir()
    (cache_home / "photographs").mkdir()
    assert cache.clear() == 3
    assert [path.name for path in cache_home.iterdir()] == ["photographs"]
    assert cache.clear() == 0


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "{home}/xdg"}, "{home}/xdg/prefcourse"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "{home}/.cache/prefcourse"),  # the standard: ignore it
        ("linux", {}, "{home}/.cache/prefcourse"),
        ("darwin", {}, "{home}/Library/Caches/prefcourse"),
        ("win32", {"LOCALAPPDATA": "{home}/Local"}, "{home}/Local/prefcourse/Cache"),
        ("win32", {}, "{home}/AppData/Local/prefcourse/Cache"),
        ("linux", {"PREFCOURSE_CACHE": "~/mine"}, "{home}/mine"),
    ],
)
def test_the_platforms_own_place_for_caches(platform, variables, expected, tmp_path, monkeypatch):
    for name in ("PREFCOURSE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=tmp_path))
    monkeypatch.setattr(folders.sys, "platform", platform)
    assert cache.home() == Path(expected.format(home=tmp_path))


def test_code_version_follows_what_can_change_a_number(tmp_path, monkeypatch):
    for name in ("losses.py", "plots.py", "cache.py", "train/ppo.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "cache.py"))
    version = cache.code_version.__wrapped__
    before = version()
    (tmp_path / "plots.py").write_text("2\n")
    assert version() == before
    (tmp_path / "train" / "ppo.py").write_text("2\n")
    assert version() != before


def test_a_seal_is_plain_json(made):
    cache.seal(made, {"seed": 0})
    assert json.loads((made / cache.SEAL).read_text())["seed"] == 0
    assert cache.read_seal(made) == {"seed": 0}


# --- the bar -----------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


QUIET = ("CI", "PREFCOURSE_QUIET", "PYTEST_CURRENT_TEST", "JPY_SESSION_NAME")


def drawn(monkeypatch, screen, **variables) -> str:
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr", screen)
    steps = [{"loss": 0.5, "unheard": 1.0}] * 3
    assert list(progress(iter(steps), "SFT", 3)) == steps
    return screen.getvalue()


def test_a_terminal_gets_a_bar_and_the_time_left(monkeypatch):
    shown = drawn(monkeypatch, Terminal())
    assert "SFT" in shown and "/3" in shown and "<" in shown and "unheard" not in shown


def test_an_open_notebook_gets_a_bar_that_is_no_error(monkeypatch):
    page = io.StringIO()
    monkeypatch.setattr("sys.stdout", page)
    assert drawn(monkeypatch, io.StringIO(), JPY_SESSION_NAME="lesson.ipynb") == "" and "SFT" in page.getvalue()


@pytest.mark.parametrize("where", ["VS Code", "Colab"])
def test_so_do_the_notebooks_of_other_editors(where, monkeypatch):
    marked = {"__vsc_ipynb_file__": "lesson.ipynb"} if where == "VS Code" else {}
    if where == "Colab":
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setattr("IPython.get_ipython", lambda: types.SimpleNamespace(user_ns=marked))
    page = io.StringIO()
    monkeypatch.setattr("sys.stdout", page)
    assert drawn(monkeypatch, io.StringIO()) == "" and "SFT" in page.getvalue()


@pytest.mark.parametrize("variables", [{"CI": "true"}, {"PREFCOURSE_QUIET": "1"}, {"PYTEST_CURRENT_TEST": "nbval"}])
def test_silence_where_it_is_asked_for(variables, monkeypatch):
    assert drawn(monkeypatch, Terminal(), **variables) == ""


def test_silence_where_nobody_looks(monkeypatch):
    assert drawn(monkeypatch, io.StringIO()) == ""


def test_a_zero_asks_for_nothing(monkeypatch):
    assert "SFT" in drawn(monkeypatch, Terminal(), CI="false", PREFCOURSE_QUIET="0")


def test_ctrl_c_passes_through_the_bar(monkeypatch):
    def steps():
        yield {"loss": 1.0}
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(KeyboardInterrupt):
        list(progress(steps(), "SFT", 2))

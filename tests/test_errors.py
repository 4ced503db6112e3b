"""Errors as people see them: one sentence, one hint, exit code 1, and never a traceback."""

from __future__ import annotations

import inspect

import pytest

from xmodal_cli import errors
from xmodal_cli.errors import UnknownName, XmodalError

KINDS = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, XmodalError)]


def test_the_drawing_at_the_top_names_every_kind():
    assert len(KINDS) >= 9
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_every_kind_carries_its_message_and_hint(kind):
    error = kind("the cup is empty", "fill it")
    assert (str(error), error.message, error.hint) == ("the cup is empty", "the cup is empty", "fill it")
    assert kind("no hint").hint == ""


def test_the_hint_for_an_unknown_name_is_the_closest_one():
    error = UnknownName.of("preset", "vsep", ["vse", "vsepp", "order-emb"])
    assert error.message == "there is no preset called 'vsep'"
    assert error.hint in ("did you mean 'vse'?", "did you mean 'vsepp'?")


def test_the_hint_without_a_close_name_is_all_names():
    assert UnknownName.of("preset", "zzz", iter(["b", "a"])).hint == "known: a, b"
    assert UnknownName.of("preset", "zzz", []).hint == "known: none"


def test_the_command_line_prints_two_lines_and_exits_with_1(xmodal):
    done = xmodal("train", "--model", "order-enb", "--data", "shapes")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: there is no preset called 'order-enb'\nhint: did you mean 'order-emb'?\n"


def test_debugging_shows_the_traceback(xmodal, monkeypatch):
    monkeypatch.setenv("XMODAL_DEBUG", "1")
    with pytest.raises(UnknownName):
        xmodal("train", "--model", "order-enb", "--data", "shapes")


def test_an_unforeseen_error_is_one_sentence_too(xmodal, monkeypatch):
    def broken():
        raise RuntimeError("the floor gave way")

    monkeypatch.setattr("xmodal_cli.recipes.models.list_models", broken)
    done = xmodal("models", "list")
    assert done.code == 1
    assert done.err.splitlines()[0] == "error: RuntimeError: the floor gave way"
    assert "XMODAL_DEBUG=1" in done.err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_too_little_memory_is_not_a_bug(error, xmodal, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr("xmodal_cli.recipes.models.list_models", fail)
    done = xmodal("models", "list")
    assert done.code == 1
    assert done.err.startswith("error: there is not enough memory")
    assert "bug" not in done.err


def test_wrong_usage_exits_with_2(xmodal):
    assert xmodal("train", "--no-such-option").code == 2
    assert xmodal("no-such-command").code == 2


def test_an_error_is_one_line_and_its_hint_another():
    assert errors.error_lines("no a.jpg", "give another") == ["error: no a.jpg", "hint: give another"]
    assert errors.error_lines("interrupted") == ["error: interrupted"]
    first, second = errors.bug_lines(KeyError("x"))
    assert first == "error: KeyError: 'x'" and "XMODAL_DEBUG=1" in second


@pytest.mark.parametrize(("value", "expected"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_debugging_is_asked_for_by_the_variable(monkeypatch, value, expected):
    if value is not None:
        monkeypatch.setenv("XMODAL_DEBUG", value)
    assert errors.is_debugging() is expected

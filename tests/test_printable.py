"""Control characters of names, captions, headers and arguments never reach the terminal."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_captioner import install, paint

from xmodal_cli.cli import hits, output, tables
from xmodal_cli.printable import escape_json, escape_unprintable
from xmodal_cli.retrieval.search_result import Hit, SearchResult

Run = Callable[..., Any]
HOSTILE = "a\x1b[31mRED\x1b]0;title\x07\x9b31m\u202egpj.\u2066\x7f\rb"
CONTROLS = [chr(c) for c in (*range(0x20), *range(0x7F, 0xA0), 0x61C, *range(0x2028, 0x202F), *range(0x2066, 0x206A))]


def check(text: str) -> None:
    """No control character except the newlines between lines and the tab of captions."""
    assert not [c for c in text if c not in "\n\t" and (unicodedata.category(c) == "Cc" or c in CONTROLS)], ascii(text)


def test_all_control_characters_are_escaped() -> None:
    for character in (*CONTROLS, "\udc9b", "\ufeff"):
        escaped = escape_unprintable(f"a{character}b")
        assert escaped.isascii() and escaped.isprintable() and escaped != f"a{character}b"
        assert escaped.encode().decode("unicode_escape") == f"a{character}b"


@pytest.mark.parametrize(
    "text",
    ["cafe\u0301", "\u72d7 \u3000", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u0646\u200c\u0645", "a\xa0b"],
)
def test_other_text_is_unchanged(text: str) -> None:
    """Also joiners of emoji and Persian, and wide spaces."""
    assert escape_unprintable(text) == text == escape_json(text)


def test_json_has_the_same_strings(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"path": HOSTILE, "more": ["\udcff", "\u72d7"]})
    out = capsys.readouterr().out
    check(out)
    assert json.loads(out) == {"path": HOSTILE, "more": ["\udcff", "\u72d7"]}
    assert "\u72d7" in out


class Terminal:
    """A stream that reports to be a terminal."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """One stream for stdout and stderr."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    return stream


def print_everything() -> None:
    """One call of every function that prints, with hostile text in it."""
    reporter = output.TerminalReporter()
    reporter.info(HOSTILE)
    reporter.warn(HOSTILE)
    output.print_error([f"error: {HOSTILE}\nhint: forged"])
    output.print_line(HOSTILE)
    output.print_table(HOSTILE, ["name", "n"], [[HOSTILE, 1], ["[red]b[/red]", 2]])
    found = SearchResult(HOSTILE, HOSTILE, "cosine", (HOSTILE,), (Hit(1, f"/{HOSTILE}.jpg", 0.5),), 1, 1, (HOSTILE,))
    hits.print_hits(found)
    hits.print_warnings(found)
    side = {"R@1": 1.0}
    tables.print_retrieval(HOSTILE, {HOSTILE: {"image_to_text": side, "text_to_image": side, "rsum": 2.0}})
    with reporter.task(HOSTILE, 2, "photos") as task:
        task.advance(1, name=HOSTILE)


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
def test_a_terminal_without_escape_sequences_gets_none(term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    terminal = use_terminal(monkeypatch)
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_everything()
    check(terminal.text)
    assert "[red]b[/red]" in terminal.text
    assert len([line for line in terminal.text.splitlines() if line.startswith("hint:")]) == 0


def test_a_terminal_gets_only_escape_sequences_of_this_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = use_terminal(monkeypatch)
    print_everything()
    assert "\x1b]8;;file://" in terminal.text
    for part in ("\x1b[31mRED", "\x1b]0;title", "\x9b", "\u202e", "\u2066", "\x7f"):
        assert part not in terminal.text


def test_a_file_name_in_captions_errors_and_usage(xmodal: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    name = "no\x1b[31mRED\x1b]0;title\x07"
    (tmp_path / f"{name}.jpg").write_text("no image")
    paint(tmp_path / f"{name}\n.png", "red", "blue")
    for args in (
        ["caption", tmp_path],
        ["caption", tmp_path / f"{name}.jpg"],
        ["caption", tmp_path, "--json"],
        ["search", str(tmp_path / f"{name}.jpg.jpg")],
        ["caption", f"--{name}"],
        [name],
        ["models", "info", name],
        ["eval", name, "--data", name],
        ["train", "--model", name],
    ):
        done = xmodal(*args)
        check(done.out + done.err)
        assert "RED" in done.out + done.err


def test_a_dataset_and_a_model_header(xmodal: Run, tmp_path: Path, trained: Path) -> None:
    from xmodal_cli.models.model_file import read_header, read_tensors, write_model

    line = {"image": "a.png", "captions": ["x"], "split": f"tr{HOSTILE}"}
    (tmp_path / "c.jsonl").write_text(json.dumps(line) + "\n")
    done = xmodal("data", "info", tmp_path / "c.jsonl")
    check(done.out + done.err)
    assert "RED" in done.out
    file = trained / "model.safetensors"
    header = read_header(file)
    hostile = replace(header, dataset={"name": HOSTILE}, metrics={HOSTILE: 1.0}, similarity=HOSTILE)
    write_model(tmp_path / "m.safetensors", hostile, read_tensors(file))
    for args in (["info", tmp_path / "m.safetensors"], ["info", tmp_path / "m.safetensors", "--json"]):
        done = xmodal("models", *args)
        check(done.out + done.err)
        assert "RED" in done.out

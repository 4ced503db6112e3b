"""Which images a terminal can show: by its name, by its reply, and where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import IO

import pytest

from xmodal_cli.cli import graphics_terminal
from xmodal_cli.errors import ConfigError
from xmodal_cli.reports.terminal_images import GraphicsProtocol

pty = pytest.importorskip("pty")
TERMINAL_VARIABLES = ("TERM", "TERM_PROGRAM", "LC_TERMINAL", "KITTY_WINDOW_ID", "TMUX", "COLORTERM", "WT_SESSION")


class FakeTerminal:
    """A pseudo-terminal. ``connect`` connects the standard streams to it, ``reply`` types into it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.end, self.inside = pty.openpty()
        self._monkeypatch = monkeypatch
        self._streams: list[IO[str]] = []

    def connect(self, encoding: str = "utf-8") -> None:
        """In the test itself: pytest replaces the streams after the fixtures."""
        for name, mode in (("stdin", "r"), ("stdout", "w")):
            self._streams.append(os.fdopen(os.dup(self.inside), mode, encoding=encoding))
            self._monkeypatch.setattr(sys, name, self._streams[-1])

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        os.close(self.end)
        os.close(self.inside)

    def reply(self, text: str) -> None:
        os.write(self.end, text.encode())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTerminal]:
    for name in (*TERMINAL_VARIABLES, graphics_terminal.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(graphics_terminal, "REPLY_SECONDS", 0.05)
    graphics_terminal._supports_sixel.cache_clear()
    made = FakeTerminal(monkeypatch)
    yield made
    monkeypatch.undo()
    made.close()
    graphics_terminal._supports_sixel.cache_clear()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"COLORTERM": "truecolor"}, "blocks"),
        ({}, "blocks-256"),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, "blocks-256"),
        ({"KITTY_WINDOW_ID": "1", "TERM": "screen-256color"}, "blocks-256"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, None),
        ({"TERM": "xterm-kitty", "XMODAL_PREVIEW": "sixel"}, "sixel"),
        ({"TERM": "xterm-kitty", "XMODAL_PREVIEW": ""}, "kitty"),
    ],
)
def test_terminals_known_by_name(
    terminal: FakeTerminal, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal.connect()
    assert graphics_terminal.find_protocol() == expected


def test_an_unknown_protocol_is_refused(terminal: FakeTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    monkeypatch.setenv("XMODAL_PREVIEW", "none")
    terminal.connect()
    with pytest.raises(ConfigError, match="XMODAL_PREVIEW is 'none'"):
        graphics_terminal.find_protocol()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("\x1b[?62;4;22c", GraphicsProtocol.SIXEL),
        ("\x1b[?4c", GraphicsProtocol.SIXEL),
        ("typed\x1b[?64;1;4c", GraphicsProtocol.SIXEL),
        ("\x1b[?64;14;42c", GraphicsProtocol.BLOCKS_256),
        ("\x1b[?6c", GraphicsProtocol.BLOCKS_256),
    ],
)
def test_a_terminal_is_asked_for_sixels(
    terminal: FakeTerminal, monkeypatch: pytest.MonkeyPatch, reply: str, expected: GraphicsProtocol
) -> None:
    asked = []
    monkeypatch.setattr(
        graphics_terminal.output, "send_control", lambda text: (asked.append(text), terminal.reply(reply))
    )
    monkeypatch.setattr(graphics_terminal, "REPLY_SECONDS", 30.0)
    terminal.connect()
    assert graphics_terminal.find_protocol() == expected
    assert asked == ["\x1b[c"]


def test_a_stream_that_is_not_a_terminal_shows_nothing(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    assert graphics_terminal.find_protocol() is None


def test_half_blocks_need_an_encoding_that_has_them(terminal: FakeTerminal) -> None:
    terminal.connect("latin-1")
    assert graphics_terminal.find_protocol() is None


@pytest.mark.parametrize(
    ("size", "expected"),
    [((24, 80, 720, 480), (9, 20)), ((24, 80, 0, 0), graphics_terminal.CELL), ((0, 0, 0, 0), graphics_terminal.CELL)],
)
def test_the_size_of_a_cell(terminal: FakeTerminal, size: tuple[int, ...], expected: tuple[int, int]) -> None:
    import fcntl
    import struct
    import termios

    terminal.connect()
    fcntl.ioctl(terminal.inside, termios.TIOCSWINSZ, struct.pack("HHHH", *size))
    assert graphics_terminal.cell_size() == expected


def test_the_size_of_a_cell_without_a_terminal(capsys) -> None:
    assert graphics_terminal.cell_size() == graphics_terminal.CELL

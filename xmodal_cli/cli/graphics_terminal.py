"""Finds out which images a terminal can show, and how large its cells are."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from xmodal_cli.cli import output
from xmodal_cli.errors import ConfigError

if TYPE_CHECKING:
    from xmodal_cli.reports.terminal_images import GraphicsProtocol

REPLY_SECONDS = 0.5
CELL = (10, 20)  # pixels, where the terminal does not report them
DEVICE_ATTRIBUTES = "\x1b[c"  # the reply lists what the terminal supports; 4 is sixel
VARIABLE = "XMODAL_PREVIEW"


def find_protocol() -> GraphicsProtocol | None:
    """How stdout shows images; None if it is not a terminal, or one without colors. Raises ConfigError."""
    from xmodal_cli.reports.terminal_images import GraphicsProtocol

    if not output.supports_escapes(sys.stdout):
        return None
    if chosen := os.environ.get(VARIABLE):
        if chosen not in tuple(GraphicsProtocol):
            raise ConfigError(f"{VARIABLE} is {chosen!r}", f"set it to one of: {', '.join(GraphicsProtocol)}")
        return GraphicsProtocol(chosen)
    named = _protocol_of(os.environ)
    if named is not None:
        return named
    if _supports_sixel():
        return GraphicsProtocol.SIXEL
    if not output.can_print("\N{UPPER HALF BLOCK}"):
        return None
    return GraphicsProtocol.BLOCKS if _has_true_color(os.environ) else GraphicsProtocol.BLOCKS_256


def cell_size() -> tuple[int, int]:
    """(width, height) of a character in pixels."""
    with contextlib.suppress(ImportError, OSError, AttributeError, ValueError):
        import fcntl
        import struct
        import termios

        reply = fcntl.ioctl(sys.stdout.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("HHHH", reply)
        if rows and columns and width >= columns and height >= rows:
            return width // columns, height // rows
    return CELL


def _protocol_of(environment: Mapping[str, str]) -> GraphicsProtocol | None:
    """The protocol of a terminal that is known by name. Inside tmux and screen the variables are not to be trusted."""
    from xmodal_cli.reports.terminal_images import GraphicsProtocol

    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if environment.get("TMUX") or term.startswith(("screen", "tmux")):
        return None
    if term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty" or environment.get("KITTY_WINDOW_ID"):
        return GraphicsProtocol.KITTY
    if program in ("iTerm.app", "WezTerm") or environment.get("LC_TERMINAL") == "iTerm2":
        return GraphicsProtocol.ITERM2
    return None


def _has_true_color(environment: Mapping[str, str]) -> bool:
    is_direct = environment.get("TERM", "").endswith("-direct")
    return is_direct or environment.get("COLORTERM") in ("truecolor", "24bit") or "WT_SESSION" in environment


@cache
def _supports_sixel() -> bool:
    """Whether the terminal's reply to the query of its attributes lists sixel graphics."""
    reply = _ask(DEVICE_ATTRIBUTES, rb"\x1b\[\?([\d;]*)c")
    return reply is not None and b"4" in reply.split(b";")


def _ask(query: str, pattern: bytes) -> bytes | None:
    """The first group of the terminal's reply; None without a terminal to ask or without a reply in time."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        return None
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)  # the reply has no line break, and must not be echoed
        output.send_control(query)
        return _read_reply(fd, pattern)
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)


def _read_reply(fd: int, pattern: bytes) -> bytes | None:
    content, deadline = b"", time.monotonic() + REPLY_SECONDS
    while (left := deadline - time.monotonic()) > 0 and select.select([fd], [], [], left)[0]:
        content += os.read(fd, 1024)
        if found := re.search(pattern, content):
            return found.group(1)
    return None

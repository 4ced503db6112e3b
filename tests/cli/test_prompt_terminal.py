"""The search prompt in a pseudo-terminal, with keyboard input."""

from __future__ import annotations

import os
import re
import select
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals", exc_type=ImportError)

PROGRAM = Path(__file__).parents[1] / "helpers" / "fake_search.py"
UP, LEFT, CTRL_A, CTRL_C, CTRL_D = "\x1b[A", "\x1b[D", "\x01", "\x03", "\x04"
PROMPT = "search> "
SECONDS = 60.0  # on a busy machine


class Terminal:
    """A program in a new pseudo-terminal."""

    def __init__(self, *args: str, **environment: str) -> None:
        self._end, inside = pty.openpty()

        variables = {**os.environ, "TERM": "xterm", "COLUMNS": "150", "LC_ALL": "C.UTF-8", **environment}
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *args],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=variables,
            start_new_session=True,
        )
        os.close(inside)
        self._text = ""

    def type(self, keys: str) -> None:
        os.write(self._end, keys.encode())

    def until(self, wanted: str) -> str:
        """The output up to and including ``wanted``; fails if it does not appear."""
        end = time.monotonic() + SECONDS
        while wanted not in self._text:
            ready, _, _ = select.select([self._end], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"{wanted!r} did not appear after {self._text!r}"
            try:
                self._text += os.read(self._end, 65536).decode()
            except OSError as error:  # the other side is closed
                raise AssertionError(f"{wanted!r} did not appear after {self._text!r}") from error
        before, _, self._text = self._text.partition(wanted)
        return before + wanted

    def ask(self, line: str) -> str:
        """Enter ``line`` at the prompt; returns the output before the next prompt."""
        self.type(line + "\n")
        return self.until(PROMPT).removesuffix(PROMPT)

    def interrupt(self) -> None:
        """Press Ctrl-C, and again if Python did not handle the first one."""
        self.type(CTRL_C)
        if not select.select([self._end], [], [], 10.0)[0]:
            self.type(CTRL_C)
        self.until(PROMPT)

    def leave(self) -> int:
        self.until("heavy: []")
        return self._process.wait(SECONDS)

    def close(self) -> None:
        os.close(self._end)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


@pytest.fixture
def terminal(tmp_path):
    """``terminal()``: a prompt on the fake indexes, ready for its first line."""
    opened = []
    for name in ("red", "green", "blue", "dog", "cat"):
        (tmp_path / f"{name}.jpg").write_bytes(b"")

    def start(*args, **environment):
        opened.append(Terminal(str(tmp_path), *args, **environment))
        opened[-1].greeting = opened[-1].until(PROMPT)
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def photos(text):
    return re.findall(r"(\w+)\.jpg", re.sub(r"\x1b\]8;[^\x1b]*\x1b\\", "", text))


def test_queries_until_ctrl_d_import_no_heavy_packages(terminal, tmp_path):
    prompt = terminal()
    assert "3 photos in the index colors, model toy" in prompt.greeting
    output = prompt.ask("a green thing")
    assert photos(output) == ["green", "red", "blue"]
    assert re.search(r"3 of 3 photos in the index colors, model toy \(cosine\), \d+ ms", output)
    assert "\x1b]8;id=" in output or "\x1b]8;;" in output
    assert (tmp_path / "green.jpg").as_uri() in output  # the link
    assert photos(prompt.ask("blue -red")) == ["red", "blue", "green"]  # the fake searcher ignores signs
    assert photos(prompt.ask("")) == []
    prompt.type(CTRL_D)
    assert prompt.leave() == 0


def test_line_editing_and_history(terminal, home):
    prompt = terminal()
    prompt.ask("gren")
    assert photos(prompt.ask(UP + LEFT + "e"))[0] == "green"
    assert photos(prompt.ask(UP + UP + CTRL_A + "blue "))[0] == "blue"
    prompt.type(":quit\n")
    assert prompt.leave() == 0
    assert (home / "history").read_text() == "gren\ngreen\nblue gren\n:quit\n"
    assert stat.S_IMODE((home / "history").stat().st_mode) == 0o600
    later = terminal()
    assert photos(later.ask(UP + UP + UP))[0] == "green"


def test_ctrl_c_drops_the_line_and_keeps_the_prompt(terminal, home):
    prompt = terminal()
    prompt.type("green th")
    prompt.until("green th")
    time.sleep(0.5)  # Python must be waiting for input; just after a key it would wait for another one
    prompt.interrupt()
    assert photos(prompt.ask("blue"))[0] == "blue"
    prompt.type(CTRL_D)
    assert prompt.leave() == 0
    assert (home / "history").read_text() == "blue\n"


def test_errors_are_printed_and_do_not_end_the_prompt(terminal):
    prompt = terminal()
    output = prompt.ask(":opne 3")
    assert "error: there is no command called ':opne'" in output
    assert "hint: did you mean ':open'?" in output
    assert "error: there are no results to open" in prompt.ask(":open 1")
    assert "error: a quotation mark is not closed" in prompt.ask('"red')
    assert "error: the image nowhere.jpg does not exist" in prompt.ask("nowhere.jpg")
    assert "error: ZeroDivisionError" in prompt.ask("bug")
    assert "out-of-vocabulary words for model toy: mauve" in prompt.ask("mauve")
    assert "error: there is no index called 'animal'" in prompt.ask(":index animal")
    assert photos(prompt.ask("blue"))[0] == "blue"


def test_open_uses_the_viewer_of_the_system(terminal, tmp_path):
    viewer = tmp_path / "bin" / "xdg-open"
    viewer.parent.mkdir()
    viewer.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/shown\n')
    viewer.chmod(0o755)
    prompt = terminal(PATH=f"{viewer.parent}:/usr/bin:/bin", DISPLAY=":77")
    prompt.ask("green")
    assert "error" not in prompt.ask(":open 2")
    assert (tmp_path / "shown").read_text() == str(tmp_path / "red.jpg")
    assert "error: there are only 3 results, not 4" in prompt.ask(":open 4")
    (tmp_path / "blue.jpg").unlink()
    assert "does not exist" in prompt.ask(":open 3")


def test_number_and_index_can_be_changed(terminal):
    prompt = terminal("-k", "1", "--index", "animals")
    assert "2 photos in the index animals" in prompt.greeting
    assert photos(prompt.ask("cat")) == ["cat"]
    assert photos(prompt.ask(":k 2")) == ["cat", "dog"]  # repeats the query
    assert "2 photos per query" in prompt.ask(":k")
    assert "3 photos in the index colors" in prompt.ask(":index colors")
    assert photos(prompt.ask("green")) == ["green", "red"]
    assert ":open 3" in prompt.ask(":help")
    prompt.type(":q\n")
    assert prompt.leave() == 0


def test_the_tab_key_completes(terminal, tmp_path):
    prompt = terminal("--index", "animals")
    assert ":open 3" in prompt.ask(":he\t")
    assert photos(prompt.ask(f"{tmp_path}/ca\t"))[-2:] == ["cat", "dog"]


def test_a_read_only_home(terminal, tmp_path):
    prompt = terminal(XMODAL_HOME=str(tmp_path / "red.jpg" / "home"))
    prompt.ask("green")
    assert photos(prompt.ask(UP))[0] == "green"
    prompt.type(CTRL_D)
    assert prompt.leave() == 0

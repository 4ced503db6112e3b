"""Ctrl-C, SIGTERM and SIGHUP: the command ends within two seconds, with exit code 128 + signal and one line on stderr.

The first signal raises KeyboardInterrupt in the main thread, which ends the command in order. A call of a library can
delay that; a thread then ends the process after ``GRACE`` seconds. A second signal ends it at once. That is safe,
because a killed command loses nothing that it has committed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

GRACE = 1.5  # seconds
LONGER = 0.3  # seconds that a process waits for its children beyond the time that they have
SAME = 0.2  # seconds after a signal in which another is the same request: ``timeout`` and torchrun send two
RERUN = "run the same command again to resume"
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # those that the system has
_FORGET = b"\0"  # no signal has this number
_SHOW_CURSOR = b"\r\x1b[K\x1b[?25h"  # a progress bar hides it


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, which end also the prompt."""


class _State:
    received = 0  # the number of the first signal
    is_over = False  # the command has ended, the process is about to
    hints: list[Callable[[], str]] = []  # noqa: RUF012 - of the active contexts
    has_children = False
    text = ""  # the hint of a context that was interrupted
    writer = -1


def end_on_signals() -> None:
    """Handle the signals of this process from now on, except those that it was started to ignore (``nohup``)."""
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    if sys.platform != "win32":
        reader, _State.writer = os.pipe()
        os.set_blocking(_State.writer, False)
        signal.set_wakeup_fd(_State.writer, warn_on_full_buffer=False)
        threading.Thread(target=_watch, args=(reader, handled), name="signals", daemon=True).start()
    for number in handled:
        signal.signal(number, _raise)


def exit_code() -> int:
    """128 + the signal that was received; that of Ctrl-C if there was none, as when a library has raised its error."""
    return 128 + (_State.received or signal.SIGINT)


def was_received() -> bool:
    """Whether there was a signal; some callbacks of libraries ignore the exception."""
    return bool(_State.received)


def forget() -> None:
    """The signal has been handled, and the command continues: the prompt at Ctrl-C."""
    _State.received = 0
    if _State.writer >= 0:
        os.write(_State.writer, _FORGET)


def command_is_over() -> None:
    """Signals now end the process without an exception, which the interpreter would print while it ends."""
    _State.is_over = True


@contextlib.contextmanager
def resumable(hint: Callable[[], str]) -> Iterator[None]:
    """A command that is interrupted in the context prints ``hint()``, of the outermost one: how to resume it."""
    if not _State.hints:
        clear_hint()  # that of an earlier call, whose caller handled the interrupt
    _State.hints.append(hint)
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or was_received():
            _State.text = hint()
        raise
    finally:
        _State.hints.remove(hint)


def hint_of(done: int, total: int, unit: str, verb: str) -> str:
    """``run the same command again to resume: 1,200 of 8,000 images are done``."""
    return f"{RERUN}: {done:,} of {total:,} {unit} {verb}"


def leave_to_children() -> None:
    """The processes of a training, which receive the signals too, print the line; this one ends after them."""
    _State.has_children = True


def clear_hint() -> None:
    """Forget the hint of an earlier command of this process."""
    _State.text = ""


def message() -> str:
    """The line that an interrupted command prints; empty in all but the first process of a training."""
    if _State.has_children or os.environ.get("RANK", "0") != "0":
        return ""
    hint = _State.hints[0]() if _State.hints else _State.text
    return f"interrupted; {hint}" if hint else "interrupted"


def _raise(number: int, frame: FrameType | None) -> None:
    if _State.is_over:
        os._exit(128 + number)
    if _State.received and _State.writer >= 0:  # ``_watch`` ends the process if this is not the same request
        return
    _State.received = _State.received or number
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated


def _watch(reader: int, handled: list[int]) -> None:
    """Read the numbers of signals, which the interpreter writes also while a library computes."""
    while True:
        if (number := os.read(reader, 1)[0]) in handled and not _is_forgotten(reader, handled):
            _end(number)


def _is_forgotten(reader: int, handled: list[int]) -> bool:
    """Wait after the first signal: whether it was handled; False at the second one, and when the time is over."""
    import select  # not needed until a signal is received

    start, limit = time.monotonic(), GRACE + (LONGER if _State.has_children else 0)
    while (left := start + limit - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            return False
        number, is_same = os.read(reader, 1)[0], time.monotonic() < start + SAME or "TORCHELASTIC_RUN_ID" in os.environ
        if number == _FORGET[0]:
            return True
        if number in handled and not is_same:
            return False
    return False


def _end(number: int) -> NoReturn:
    """End the process, whatever its other threads do."""
    with contextlib.suppress(Exception):
        if os.isatty(2):
            os.write(2, _SHOW_CURSOR)
        if text := message():
            os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))
    os._exit(128 + number)

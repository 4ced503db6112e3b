"""stdout and stderr of a command: any encoding, and errors of writing them as errors of the command.

A full disk behind stdout is a StorageError. A closed pipe, as of ``| head``, ends the command with exit code 0.
Messages that cannot be written to stderr are dropped, because the command can still do its work.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from xmodal_cli.errors import StorageError

_WRITES_ANYTHING = ("backslashreplace", "replace", "ignore", "xmlcharrefreplace", "namereplace")
_HINT = "redirect the output to a file on a disk with free space, or to a program that reads it"


@contextlib.contextmanager
def checked_streams() -> Iterator[None]:
    """Check all writes to ``sys.stdout`` and ``sys.stderr`` while the context is active."""
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    stdout, stderr = before
    try:
        sys.stderr = cast(TextIO, _CheckedStream(stderr or _null()))
        if stdout is not None:
            sys.stdout = cast(TextIO, _CheckedStream(stdout, is_result=True))
        for stream in (stdout, stderr):
            _escape_unencodable(stream)
        yield
    finally:
        sys.stdout, sys.stderr = before


def check_stdout() -> None:
    """Raise StorageError if stdout is closed, before a command computes a result that cannot be printed."""
    if sys.stdout is None:
        hint = "redirect it to a file, or to the null device"
        raise StorageError("stdout is closed, so the result cannot be printed", hint)


def write_bytes(stream: Any, data: bytes) -> None:
    """Write bytes to a text stream, whose text has been flushed; one without bytes gets escapes of invalid ones."""
    if isinstance(stream, _CheckedStream):
        stream.write_bytes(data)
    elif (binary := getattr(stream, "buffer", None)) is not None:
        binary.write(data)
    else:
        stream.write(data.decode("utf-8", "backslashreplace"))


class _CheckedStream:
    """A text stream. A failed write of a result raises StorageError or SystemExit; later writes are dropped.

    ``is_result`` is true for stdout; on stderr, nothing is raised. Other attributes are those of the stream.
    """

    def __init__(self, stream: TextIO, is_result: bool = False) -> None:
        self._stream, self._is_result = stream, is_result
        self._has_failed = False
        self._failure: BaseException | None = None

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # Typer finds out in this way whether a stream is binary
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text and not self._has_failed:
            self._call(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._failure is not None:
            raise self._failure
        if not self._has_failed:
            self._call(self._stream.flush)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes behind all text that was written, and flush nothing."""
        if not self._has_failed:
            self._call(self._stream.flush)
            self._call(self._stream.buffer.write, data)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        try:
            function(*args)
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self._has_failed = True
            _discard(self._stream)
            if self._is_result:
                self._failure = _failure(error)
                raise self._failure from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)


def _failure(error: Exception) -> BaseException:
    """What to raise for an error of writing a result."""
    if _is_broken_pipe(error):
        return SystemExit(0)
    return StorageError(f"stdout cannot be written: {getattr(error, 'strerror', None) or error}", _HINT)


def _is_broken_pipe(error: Exception) -> bool:
    """Whether the reader closed the pipe; Windows reports that as an invalid argument."""
    code = getattr(error, "errno", None)
    return code == errno.EPIPE or (sys.platform == "win32" and code == errno.EINVAL)


def _discard(stream: TextIO) -> None:
    """Send the text in the buffer of ``stream`` to the null device, so that the interpreter can close it at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)
        stream.flush()


def _fill_descriptors() -> None:
    """Open the null device as the standard streams that are closed, so that no other file gets their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _null() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _escape_unencodable(stream: Any) -> None:
    """Make the stream write characters that it cannot encode as escapes instead of raising."""
    if getattr(stream, "errors", "ignore") not in _WRITES_ANYTHING and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")

"""Every error that a person can mend, as one sentence and one hint. Knows nothing of the rest.

XmodalError                 message + hint; the command line prints both and exits with 1
├── UnknownName             a misspelt or unknown name; the hint gives the nearest right one
├── ConfigError             a setting of the wrong kind, or settings that contradict each other
├── MissingData             a dataset, file or folder that is not there
├── BadData                 a file that is there and cannot be used
│   └── BadModel            a model file that is truncated, foreign or of another kind
├── IncompatibleFeatures    features, model, query or index that were not made for each other
├── Unavailable             a program that some figures need and most do not, absent or failing
├── DownloadError           a download that failed, or arrived damaged
└── StorageError            the disk is full, or a place cannot be written
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class XmodalError(Exception):
    """A problem the user can mend: ``message`` says what and where, ``hint`` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnknownName(XmodalError):
    """A name that nothing answers to."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for ``name``; its hint names the nearest of ``known``, or lists them all."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
        return cls(f"there is no {kind} called {name!r}", hint)


class ConfigError(XmodalError):
    """A setting that cannot be used as given."""


class MissingData(XmodalError):
    """A dataset, file or folder that is not where it was looked for."""


class BadData(XmodalError):
    """A file that exists and cannot be used; the message names it."""


class BadModel(BadData):
    """A model file that is truncated, foreign or of another kind."""


class IncompatibleFeatures(XmodalError):
    """Features, a model, a query or an index that were made by different backbones."""


class Unavailable(XmodalError):
    """A program beside xmodal that is absent or failed; the rest works without it."""


class DownloadError(XmodalError):
    """A download that failed, or that arrived damaged."""


class StorageError(XmodalError):
    """The disk is full, or the place cannot be written."""


def is_debugging() -> bool:
    """Whether the environment variable XMODAL_DEBUG asks for tracebacks."""
    return os.environ.get("XMODAL_DEBUG", "") not in ("", "0")


def error_lines(message: str, hint: str = "") -> list[str]:
    """The lines that the command line prints for an error."""
    return [f"error: {message}", *([f"hint: {hint}"] if hint else [])]


def bug_lines(error: Exception) -> list[str]:
    """The lines for an error of any other kind than ``XmodalError``."""
    return error_lines(f"{type(error).__name__}: {error}", "this is a bug; XMODAL_DEBUG=1 shows where it happened")

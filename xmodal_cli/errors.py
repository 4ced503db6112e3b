"""User-fixable errors, each with a message and a hint. Imports no other module of the package.

XmodalError                 message and hint; the command line prints both and exits with code 1
├── UnknownName             a misspelled or unknown name; the hint gives the closest known one
├── ConfigError             an invalid setting, or settings that contradict each other
├── MissingData             a dataset, file or folder that does not exist
├── BadData                 a file that exists but cannot be used
│   ├── BadModel            a model file that is truncated, of another kind or from another program
│   └── BadImage            an image file that cannot be used, with its ``Category``
├── IncompatibleFeatures    features, model, query and index that do not match
├── Unavailable             an external program that is missing or fails; only some metrics need it
├── DownloadError           a download that failed or is damaged
└── StorageError            the disk is full, or a path is not writable
"""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable
from enum import StrEnum


class ReportedInterrupt(Exception):
    """A signal in a command that has ended in order and has printed how to resume."""


class XmodalError(Exception):
    """A user-fixable error. ``message`` is what failed and in which file, ``hint`` what to do next, "" if unknown."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnknownName(XmodalError):
    """An unknown name."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """The error for ``name``. The hint is the closest of ``known`` or, if none is close, all of them."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
        return cls(f"there is no {kind} called {name!r}", hint)


class ConfigError(XmodalError):
    """An invalid setting."""


class MissingData(XmodalError):
    """A dataset, file or folder that does not exist."""


class BadData(XmodalError):
    """A file that exists but cannot be used; the message has its path."""


class BadModel(BadData):
    """A model file that is truncated, of another kind or from another program."""


class Category(StrEnum):
    """A problem of an image file, for programs; the values are in ``--json`` and in indexes."""

    RAW = "raw"
    HEIC = "heic"
    AVIF = "avif"
    JXL = "jxl"
    SVG = "svg"
    VECTOR = "vector"  # EPS, PostScript, PDF, WMF
    NOT_AN_IMAGE = "not_an_image"
    EMPTY = "empty"
    DAMAGED = "damaged"
    TOO_LARGE = "too_large"
    SPECIAL = "special"  # a named pipe, socket or device
    MISSING = "missing"
    UNREADABLE = "unreadable"  # an error of the operating system: permissions, input/output
    MEMORY = "memory"
    NOT_FINITE = "not_finite"
    EXCLUDED = "excluded"
    PROFILE = "color_profile"  # a damaged color profile; the image is used


class BadImage(BadData):
    """An image file that cannot be used.

    ``may_change``: the reason may disappear while the file stays as it is (a missing plugin, permissions, memory), so
    the file must be tried again and its failure must not be remembered.
    """

    def __init__(
        self, message: str, hint: str = "", category: Category = Category.DAMAGED, may_change: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.category, self.may_change = category, may_change


class IncompatibleFeatures(XmodalError):
    """Features, model, query or index of different backbones or models."""


class Unavailable(XmodalError):
    """An external program that is missing or fails; everything else works without it."""


class DownloadError(XmodalError):
    """A download that failed or is damaged."""


class StorageError(XmodalError):
    """The disk is full, or a path is not writable."""


def is_debugging() -> bool:
    """Whether tracebacks are printed: the environment variable XMODAL_DEBUG is set and not 0."""
    return os.environ.get("XMODAL_DEBUG", "") not in ("", "0")


def error_lines(message: str, hint: str = "") -> list[str]:
    """The lines that the command line prints for an error."""
    return [f"error: {message}", *([f"hint: {hint}"] if hint else [])]


INSTALL_ALL = "install all packages of xmodal, as in docs/install.md: uv tool install ."
# packages that index, search and caption do without, for the bundled models and all exported ones
OPTIONAL_PACKAGES = (
    *("torch", "torchvision", "timm", "transformers", "open_clip", "pytorch_metric_learning"),
    *("pycocoevalcap", "matplotlib", "numba", "tensorboardX", "faiss"),
)


def missing_package(error: BaseException) -> str:
    """The package in ``OPTIONAL_PACKAGES`` that is missing, if that is the error; else empty."""
    package = (getattr(error, "name", None) or "").partition(".")[0]
    return package if isinstance(error, ModuleNotFoundError) and package in OPTIONAL_PACKAGES else ""


def missing_package_lines(error: Exception) -> list[str]:
    """The lines that the command line prints if a package in ``OPTIONAL_PACKAGES`` is missing; [] for other errors."""
    package = missing_package(error)
    return error_lines(f"this needs the package {package}, which is not installed", INSTALL_ALL) if package else []


_MEMORY = re.compile(
    r"(cannot|can't|failed to) allocate memory|out of memory|not enough memory|unable to allocate|bad_?alloc"
    r"|size calculation overflowed",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python, NumPy, torch or onnxruntime means that memory could not be allocated."""
    if isinstance(error, MemoryError):
        return True
    is_of_library = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")
    return is_of_library and bool(_MEMORY.search(str(error)))


def memory_lines(error: Exception) -> list[str]:
    """The lines that the command line prints if there is not enough memory; [] for other errors."""
    if not is_out_of_memory(error):
        return []
    settings = "training.batch_size or training.chunk_size, --batch-size, --beam, model.embed_dim"
    hint = f"use a smaller batch, beam or model ({settings})"
    return error_lines("there is not enough memory for this", hint)


_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT)
_NOT_A_PATH = (errno.ENAMETOOLONG, errno.ELOOP)


def path_message(error: Exception) -> tuple[str, str] | None:
    """The message and the hint for a path that the operating system refuses; None for other errors."""
    if not isinstance(error, OSError) or not error.filename:
        return None
    message = f"{os.fsdecode(error.filename)}: {error.strerror}"
    if error.errno in _NO_ACCESS:
        return message, "check the permissions and the disk of it and of the folders above it"
    return (message, "give the path of a file or a folder") if error.errno in _NOT_A_PATH else None


def path_lines(error: Exception) -> list[str]:
    """The lines that the command line prints for a path that the operating system refuses; [] for other errors."""
    found = path_message(error)
    return error_lines(*found) if found else []


def bug_lines(error: Exception) -> list[str]:
    """The lines that the command line prints for an exception that is not an ``XmodalError``."""
    return error_lines(*bug_message(error))


def bug_message(error: Exception) -> tuple[str, str]:
    """The message and the hint for an exception that is not an ``XmodalError``."""
    return f"{type(error).__name__}: {error}", "this is a bug; XMODAL_DEBUG=1 shows where it happened"

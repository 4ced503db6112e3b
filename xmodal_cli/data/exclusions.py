"""Which files and folders are left out when folders are listed.

In order of precedence: the patterns of ``--exclude``, ``.xmodalignore`` files (the deepest first), and the thumbnail,
trash and system folders of common systems. Patterns have the syntax of ``.gitignore``; ``!`` includes again. Hidden
files and folders are always left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.errors import BadData, ConfigError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".xmodalignore"
HIDDEN, SYSTEM = "hidden", "a thumbnail, trash or system folder"

_SYSTEM_FOLDERS = frozenset(  # names that begin with a sign are in lower case here
    (
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin", "@appstore"),  # Synology
        *("@recycle", "@recently-snapshot", "@transcode"),  # QNAP
        *("$recycle.bin", "RECYCLER", "RECYCLED", "System Volume Information", "$winreagent"),  # Windows
        *("lost+found", "__macosx", "~snapshot"),
        *("iPod Photo Cache", "Network Trash Folder", "Temporary Items"),  # macOS
    )
)
_SYSTEM_SUFFIXES = (".lrdata",)  # previews of Lightroom
_LIBRARY_SUFFIXES = (".photoslibrary", ".photolibrary", ".aplibrary", ".migratedphotolibrary")  # of Apple
_LIBRARY_FOLDERS = frozenset(("resources", "database", "private", "scopes", "thumbnails", "previews", "faces"))
_SYSTEM_FILES = ("synofile_thumb", "synophoto_thumb")


def is_system_folder(name: str, parent: str = "") -> bool:
    """Whether a folder has the name of a thumbnail, trash or system folder; ``parent`` is the path that holds it."""
    key = name.casefold()
    if parent.casefold().endswith(_LIBRARY_SUFFIXES) and key in _LIBRARY_FOLDERS:
        return True
    return (name if name[:1].isalpha() else key) in _SYSTEM_FOLDERS or key.endswith(_SYSTEM_SUFFIXES)


@dataclass(frozen=True)
class _Patterns:
    """Patterns relative to the folder ``base``; ``source`` is where they come from."""

    base: str
    source: str
    spec: GitIgnoreSpec

    def decide(self, path: str, is_folder: bool) -> bool | None:
        """Whether ``path`` is excluded; None if no pattern matches it."""
        relative = os.path.relpath(path, self.base).replace(os.sep, "/")
        return self.spec.check_file(relative + "/" * is_folder).include


@dataclass(frozen=True)
class Exclusions:
    """The rules for the entries of one folder: ``patterns`` by precedence."""

    patterns: tuple[_Patterns, ...] = ()

    @classmethod
    def below(cls, root: str, given: Sequence[str] = (), bases: Iterable[str] = ()) -> Exclusions:
        """The rules in ``root``: the ``given`` patterns, and the ignore files in the folders above it.

        The given patterns are relative to the one of ``bases`` that contains the root, else to the root. Raises
        ConfigError for an invalid pattern, BadData for an ignore file that cannot be read.
        """
        base = next((b for b in bases if root == b or root.startswith(b.rstrip(os.sep) + os.sep)), root)
        rules = cls.of_patterns(base, given)
        for folder in reversed(Path(root).parents):
            if (folder / IGNORE_FILE).is_file():
                rules = rules.enter(str(folder))
        return rules

    @classmethod
    def of_patterns(cls, base: str, given: Sequence[str]) -> Exclusions:
        """The ``given`` patterns alone, relative to ``base``. Raises ConfigError for an invalid one."""
        return cls(tuple(_given(base, given)))

    def enter(self, folder: str) -> Exclusions:
        """The rules with those of the ignore file in ``folder``. Raises BadData."""
        file = Path(folder) / IGNORE_FILE
        try:
            lines = file.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
            added = _Patterns(folder, f"excluded by {file}", _compile(lines))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BadData(f"{file} cannot be read: {reason}", "fix or remove this file") from error
        num_given = sum(p.source == _GIVEN for p in self.patterns)
        return Exclusions((*self.patterns[:num_given], added, *self.patterns[num_given:]))

    def excludes_file(self, path: str) -> bool:
        """Whether the patterns exclude a file, or a folder that it is in; names have no meaning by themselves."""
        decisions = (patterns.decide(path, is_folder=False) for patterns in self.patterns)
        return next((decision for decision in decisions if decision is not None), False)

    def reason(self, name: str, path: str, is_folder: bool) -> str:
        """Why an entry is left out; "" if it is not."""
        if name.startswith("."):
            return HIDDEN
        for patterns in self.patterns:
            if (excluded := patterns.decide(path, is_folder)) is not None:
                return patterns.source if excluded else ""
        if is_folder:
            return SYSTEM if is_system_folder(name, os.path.dirname(path)) else ""  # noqa: PTH120 - for speed
        return SYSTEM if name.casefold().startswith(_SYSTEM_FILES) else ""


_GIVEN = "excluded by --exclude"


def _given(base: str, patterns: Sequence[str]) -> Iterable[_Patterns]:
    for pattern in patterns:
        if not pattern.strip() or "\n" in pattern:
            raise ConfigError(f"{pattern!r} is not a pattern", "for example: --exclude 'raw/' --exclude '*.gif'")
    if patterns:
        try:
            yield _Patterns(base, _GIVEN, _compile(patterns))
        except ValueError as error:
            raise ConfigError(f"--exclude: {error}", "for example: --exclude 'raw/' --exclude '*.gif'") from error


def _compile(lines: Sequence[str]) -> GitIgnoreSpec:
    """Raises ValueError with the invalid pattern."""
    from pathspec import GitIgnoreSpec  # imported only where there are patterns

    try:
        return GitIgnoreSpec.from_lines(lines)
    except re.error as error:  # the syntax has none, its translation into a regular expression does
        raise ValueError(f"Invalid git pattern: {error.msg}") from error


def literal_pattern(path: str) -> str:
    """The pattern that excludes ``path``, which is relative to the folder that is listed and has slashes."""
    text = re.sub(r"[\\*?\[]", r"\\\g<0>", path).replace("\n", "?")
    kept = text.rstrip()
    return "/" + kept + "".join("\\ " if c == " " else "?" for c in text[len(kept) :])  # ends are stripped

"""Lists the image files in folders with sizes and modification times; opens no file.

Files with the suffix of camera RAW or vector graphics are listed too: opening them fails with a reason, so that they
are counted like other files that cannot be read.

Folders are walked recursively, through symbolic links; each real folder is visited once, so that cycles end. Hidden
files and what ``exclusions`` names are left out, except for roots. A file given as a root is listed whatever its name.
Names that are not UTF-8 are strings with surrogate escapes.
"""

from __future__ import annotations

import contextlib
import gc
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xmodal_cli.data.exclusions import IGNORE_FILE, Exclusions
from xmodal_cli.data.image_names import is_listed_name
from xmodal_cli.data.mounts import mount_points
from xmodal_cli.errors import BadData, Category, MissingData
from xmodal_cli.file_identity import NotRegularFile, check_regular
from xmodal_cli.paths import absolute_path, expand_home
from xmodal_cli.types import Unreadable

BROKEN_LINK = "link to a file or folder that does not exist"
EMPTY_LINK = "link to a folder that is empty"
EXCLUDED_HINT = "change the patterns of --exclude or of the .xmodalignore files"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """An image file; ``size`` in bytes, modification time ``mtime_ns`` in nanoseconds."""

    path: str
    size: int
    mtime_ns: int


@dataclass
class Scan:
    """The image files under ``roots``, sorted by path, and what was left out: paths with the reason.

    ``unreadable_folders`` and ``unreadable_files`` exist, but cannot be accessed. ``absent`` are links whose target
    does not exist or is empty. ``unreachable_roots`` do not exist or cannot be accessed; in ``empty_roots`` there are
    no images. ``mounts`` are the mount points, each with whether it contains anything. ``left_out`` are files that are
    known not to be readable without opening them: pipes, devices, broken links and those that cannot be accessed.
    """

    roots: tuple[str, ...]
    files: list[FoundFile] = field(default_factory=list)
    unreadable_folders: dict[str, str] = field(default_factory=dict)
    unreadable_files: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    unreachable_roots: dict[str, str] = field(default_factory=dict)
    empty_roots: dict[str, str] = field(default_factory=dict)
    excluded: list[Unreadable] = field(default_factory=list)
    left_out: list[Unreadable] = field(default_factory=list)
    mounts: dict[str, bool] = field(default_factory=dict)
    num_non_images: int = 0

    def unreadable(self) -> dict[str, str]:
        """The files and folders that cannot be accessed, with the reason."""
        return {**self.unreadable_folders, **self.unreadable_files}

    def excluded_by_pattern(self, root: str) -> str:
        """An image or a folder in ``root`` that a pattern excludes, and by what; empty if there is none."""
        found = (p for p in self.excluded if p.reason.startswith("excluded by") and is_under(str(p.path), root))
        return next((f"{problem.path} is {problem.reason}" for problem in found), "")


def is_under(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or inside it."""
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def outermost(roots: Sequence[str]) -> tuple[str, ...]:
    """The roots that are not inside another root, in order, without duplicates."""
    unique = dict.fromkeys(roots)
    return tuple(r for r in unique if not any(str(parent) in unique for parent in Path(r).parents))


def is_under_any(path: str, folders: Mapping[str, object] | frozenset[str]) -> bool:
    """Whether ``path`` is one of ``folders`` or inside one; the time does not depend on their number."""
    return containing(path, folders) is not None


def containing(path: str, folders: Mapping[str, object] | frozenset[str]) -> str | None:
    """The innermost of ``folders`` that is ``path`` or contains it, or None."""
    if not folders:
        return None
    while path not in folders:
        parent = os.path.dirname(path)  # noqa: PTH120 - a Path takes ten times as long
        if parent == path:
            return None
        path = parent
    return path


def path_key(path: str) -> bytes:
    """Sort key of a path: its bytes, independent of the locale."""
    return os.fsencode(path)


def sort_by_path(paths: Iterable[str]) -> list[str]:
    """The paths sorted by ``path_key``; ASCII text has the same order without it, in a tenth of the time."""
    found = list(paths)
    return sorted(found) if all(map(str.isascii, found)) else sorted(found, key=path_key)


def scan(roots: Sequence[Path], exclude: Sequence[str] = ()) -> Scan:
    """Walk files and folders, without those that ``exclude`` matches, patterns relative to the root.

    Raises MissingData if a root does not exist or there is no image, ConfigError for an invalid pattern.
    """
    result = scan_roots(roots, exclude)
    raise_if_absent(result)
    return result


def scan_roots(roots: Sequence[Path], exclude: Sequence[str] = (), bases: Sequence[str] = ()) -> Scan:
    """Like ``scan``, but roots without images are in ``unreachable_roots`` and ``empty_roots``.

    ``exclude`` are patterns, relative to the one of ``bases`` that contains the root. Raises ConfigError, BadData.
    """
    result = Scan(tuple(str(absolute_path(expand_home(root))) for root in roots))
    walk = _Walk(result)
    with without_cyclic_gc():  # many objects are created, and none of them in cycles
        for root in result.roots:
            walk.add_root(root, Exclusions.below(root, exclude, bases))
        result.files = [walk.files[path] for path in sort_by_path(walk.files)]
    for problems in (result.excluded, result.left_out):
        problems.sort(key=lambda problem: path_key(str(problem.path)))
    return result


@contextlib.contextmanager
def without_cyclic_gc() -> Iterator[None]:
    """Objects are freed by their reference counts only."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def unreachable(result: Scan, root: str) -> MissingData:
    """The error for a root that cannot be accessed."""
    hint = "check the spelling, its permissions and that its disk is mounted"
    return MissingData(f"{root} cannot be indexed: {result.unreachable_roots[root].lower()}", hint)


def raise_if_absent(result: Scan) -> None:
    """Raises MissingData if a root cannot be accessed, or if there is no image in any of them."""
    for root in result.unreachable_roots:
        raise unreachable(result, root)
    if result.files:
        return
    for path, reason in result.unreadable().items():
        raise MissingData(f"{path} cannot be read: {reason}", "check its permissions")
    for problem in result.left_out:
        raise BadData(problem.reason, "give photos or folders of photos")
    for excluded in filter(None, map(result.excluded_by_pattern, result.roots)):
        raise MissingData(f"there are no images in {', '.join(result.roots)}: {excluded}", EXCLUDED_HINT)
    others = f"only {result.num_non_images} files of other kinds" if result.num_non_images else "no files at all"
    raise MissingData(
        f"there are no images in {', '.join(result.roots)}: {others}",
        "give a folder with .jpg, .png, .webp or .tif files; hidden files, whose names begin with a dot, are skipped",
    )


class _Walk:
    """One walk over all roots, which collects its results in ``result`` and ``files``."""

    def __init__(self, result: Scan) -> None:
        self.result, self.files = result, dict[str, FoundFile]()
        self._visited, self._mount_points = set[tuple[int, int]](), mount_points()

    def add_root(self, root: str, rules: Exclusions) -> None:
        """Walk a root; one that does not exist or has no image is absent."""
        num_files, num_non_images = len(self.files), self.result.num_non_images
        try:
            status = Path(root).stat()
        except OSError as error:
            self.result.unreachable_roots[root] = _reason(error)
            return
        if not stat.S_ISDIR(status.st_mode):
            self._add_file(root, status)
        elif (status.st_dev, status.st_ino) not in self._visited:  # else it is inside another root
            if (mount := containing(os.path.realpath(root), self._mount_points)) not in (None, os.sep):
                self.result.mounts[str(mount)] = True
            self._walk(root, rules)
            if len(self.files) == num_files:
                self.result.empty_roots[root] = self._empty_reason(root, self.result.num_non_images - num_non_images)

    def _empty_reason(self, root: str, num_non_images: int) -> str:
        for path, reason in self.result.unreadable().items():
            if is_under(path, root):
                return reason
        if excluded := self.result.excluded_by_pattern(root):
            return excluded
        return f"it has only {num_non_images} files of other kinds" if num_non_images else "it is empty"

    def _walk(self, root: str, rules: Exclusions) -> None:
        folders = [(root, _device_above(root), rules)]
        while folders:
            folder, device_above, rules = folders.pop()
            try:
                status = Path(folder).stat()
                if (status.st_dev, status.st_ino) in self._visited:
                    continue
                self._visited.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as listing:
                    by_name = {entry.name: entry for entry in listing}
            except OSError as error:
                self._add_unreadable_folder(folder, _reason(error))
                continue
            if IGNORE_FILE in by_name:
                rules = rules.enter(folder)
            self._note(folder, status.st_dev != device_above, bool(by_name))
            for name in reversed(sort_by_path(by_name)):
                if self._visit(entry := by_name[name], rules):
                    folders.append((entry.path, status.st_dev, rules))

    def _note(self, folder: str, is_other_device: bool, has_entries: bool) -> None:
        """Record a mount point, and a link to an empty folder."""
        is_link = os.path.islink(folder)  # noqa: PTH114 - for speed
        if is_other_device or (self._mount_points and os.path.realpath(folder) in self._mount_points):
            self.result.mounts[folder] = has_entries
        if is_link and not has_entries and folder not in self.result.roots:
            self.result.absent[folder] = EMPTY_LINK

    def _visit(self, entry: os.DirEntry[str], rules: Exclusions) -> bool:
        """Record an entry; returns whether it is a folder to be walked."""
        try:
            is_folder = entry.is_dir()
            if reason := rules.reason(entry.name, entry.path, is_folder):
                self._exclude(entry, reason, is_folder)
                return False
            status = entry.stat()
        except FileNotFoundError:  # deleted since the folder was listed, or a broken link
            if entry.is_symlink():
                self.result.absent[entry.path] = BROKEN_LINK
                self._leave_out(entry.path, f"{entry.path}: {BROKEN_LINK}", Category.MISSING)
            return False
        except OSError as error:
            self._add_unreadable(entry, _reason(error))
            return False
        if stat.S_ISDIR(status.st_mode):
            return True
        if is_listed_name(entry.name):
            self._add_file(entry.path, status)
        else:
            self.result.num_non_images += 1
        return False

    def _add_file(self, path: str, status: os.stat_result) -> None:
        """Record a file, or leave out a pipe, socket or device."""
        if stat.S_ISREG(status.st_mode):
            self.files[path] = FoundFile(path, status.st_size, status.st_mtime_ns)
            return
        try:
            check_regular(path, status.st_mode)
        except NotRegularFile as error:
            self._leave_out(path, f"{path} cannot be opened: {error.strerror}", Category.SPECIAL)

    def _leave_out(self, path: str, reason: str, category: Category) -> None:
        may_change = category in (Category.MISSING, Category.UNREADABLE)
        self.result.left_out.append(Unreadable(Path(path), reason, category, may_change))

    def _exclude(self, entry: os.DirEntry[str], reason: str, is_folder: bool) -> None:
        """Record a folder, or an image, that is left out."""
        if is_folder or is_listed_name(entry.name.lstrip("._")):
            self.result.excluded.append(Unreadable(Path(entry.path), reason, Category.EXCLUDED))

    def _add_unreadable_folder(self, folder: str, reason: str) -> None:
        self.result.unreadable_folders[folder] = reason
        self._leave_out(folder, f"{folder} cannot be read: {reason}", Category.UNREADABLE)

    def _add_unreadable(self, entry: os.DirEntry[str], reason: str) -> None:
        """An entry that cannot be accessed: a folder, an image, or a link to either."""
        try:
            is_folder, is_link = entry.is_dir(follow_symlinks=False), entry.is_symlink()
        except OSError:  # the file system does not report the kinds of entries
            is_folder, is_link = False, True
        if is_folder:
            self._add_unreadable_folder(entry.path, reason)
        elif is_link or is_listed_name(entry.name):
            self.result.unreadable_files[entry.path] = reason
            self._leave_out(entry.path, f"{entry.path} cannot be read: {reason}", Category.UNREADABLE)
        else:
            self.result.num_non_images += 1


def _device_above(root: str) -> int:
    try:
        return Path(os.path.realpath(root)).parent.stat().st_dev
    except OSError:
        return -1


def _reason(error: OSError) -> str:
    return error.strerror or str(error)

"""Finds the image files that a list names, one by one: in its own folder and in folders up to two levels below it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.file_identity import is_file, is_folder
from xmodal_cli.splits import canonical_split, split_in_name

_COPY_SHARE = 0.5  # a folder in which more of the names are found already has copies, such as thumbnails


def locate_images(root: Path, names: Sequence[tuple[str, str]], default: str | None = "images") -> list[Path]:
    """The files of images, each given as its name and its group: a split, or the folder it is expected in.

    Images of a group are first looked up in the group's own folder (``val`` or ``val2014`` for val), then in others. A
    folder that repeats names which are already found is not used, nor a file in the folder of another group that
    belongs to an image of that group. An image that is found nowhere gets the path at which it is expected, so that it
    is reported as missing: with the others, in ``default``, or for None in a folder with the name of its group. A name
    without a suffix is that of an image file with any suffix.
    """
    names = [(_with_slashes(root, name), group) for name, group in names]
    finder = _Finder(root, {group for _, group in names})
    groups: dict[str, dict[str, Path | None]] = {}
    for name, group in names:
        groups.setdefault(group, {})[name] = None
    for group, files in groups.items():
        finder.search_own(group, files)
    for group, files in groups.items():
        finder.search_others(group, files)
    for group, files in groups.items():
        finder.expect(group, files, groups.values(), default)
    return [groups[group][name] or root / name for name, group in names]


def _with_slashes(root: Path, name: str) -> str:
    """``name`` with slashes instead of the backslashes of Windows, unless there is a file with backslashes."""
    if "\\" not in name or os.sep == "\\":
        return name
    try:
        return name if os.path.lexists(root / name) else name.replace("\\", "/")
    except ValueError:  # a NUL byte
        return name


class _Finder:
    """Listings of the folders below ``root``, each read once."""

    def __init__(self, root: Path, groups: set[str]) -> None:
        self.root, self.groups = root, groups
        self.claimed: set[Path] = set()  # files in a group's own folder
        self.listings: dict[Path, dict[str, str]] = {}

    @cached_property
    def folders(self) -> list[Path]:
        children = _list_folders(self.root)
        return [self.root, *children, *(inner for folder in children for inner in _list_folders(folder))]

    def own_folders(self, group: str) -> list[Path]:
        """The folders named after a group, those with its exact name first."""
        split = canonical_split(split_in_name(group) or group)
        named = [f for f in self.folders[1:] if f.name.lower() == group.lower() or split_in_name(f.name) == split]
        return sorted(named, key=lambda folder: folder.name.lower() != group.lower()) if group else []

    def search_own(self, group: str, files: dict[str, Path | None]) -> None:
        for folder in self.own_folders(group) if self._can_have_own_folder(files) else []:
            self._assign(folder, files)
        self.claimed.update(file for file in files.values() if file is not None)

    def search_others(self, group: str, files: dict[str, Path | None]) -> None:
        missing = [name for name, file in files.items() if file is None]
        if not missing:
            return
        for folder in self.folders:  # usually all images are in one folder, and the other ones need not be listed
            if all((file := self.find(folder, name)) is not None and file not in self.claimed for name in missing):
                self._assign(folder, files)
                return
        counts = {folder: self._count(folder, files) for folder in self.folders}
        for folder in sorted(self.folders, key=lambda folder: -counts[folder]):
            repeated = sum(file is not None and self.find(folder, name) is not None for name, file in files.items())
            if counts[folder] and repeated <= _COPY_SHARE * counts[folder]:
                self._assign(folder, files)
        if not any(files.values()):
            self._search_base_names(files)

    def expect(
        self,
        group: str,
        files: dict[str, Path | None],
        all_files: Iterable[dict[str, Path | None]],
        default: str | None,
    ) -> None:
        """Give images that were not found the path at which they are expected."""
        if all(files.values()):
            return
        folder = self._main_folder(files)
        if folder is None:
            own = self.own_folders(group) if self._can_have_own_folder(files) else []
            others = (self._main_folder(other) for other in all_files if default is not None)
            expected = self.root / (group if default is None else default)
            folder = own[0] if own else next((other for other in others if other is not None), expected)
        for name in [name for name, file in files.items() if file is None]:
            files[name] = folder / name

    def find(self, folder: Path, name: str) -> Path | None:
        """The file ``name`` in ``folder``, or the image file with that name and a suffix."""
        parent, _, last = name.rpartition("/")
        inner = folder / parent if parent else folder
        listing = self.listings.get(inner)
        if listing is None:
            listing = self.listings[inner] = _list_files(inner)
        found = listing.get(last)
        return inner / found if found is not None else None

    def _can_have_own_folder(self, files: dict[str, Path | None]) -> bool:
        return any("/" not in name for name in files)

    def _assign(self, folder: Path, files: dict[str, Path | None]) -> None:
        for name, file in files.items():
            if file is None:
                found = self.find(folder, name)
                if found is not None and found not in self.claimed:
                    files[name] = found

    def _count(self, folder: Path, files: dict[str, Path | None]) -> int:
        return sum(self.find(folder, name) is not None for name in files)

    def _main_folder(self, files: dict[str, Path | None]) -> Path | None:
        """The folder from which most of the names were found."""
        counts: dict[Path, int] = {}
        for name, file in files.items():
            if file is not None:
                depth = len(PurePosixPath(name).parts)
                counts[file.parents[depth - 1]] = counts.get(file.parents[depth - 1], 0) + 1
        return max(counts, key=lambda folder: counts[folder], default=None)

    def _search_base_names(self, files: dict[str, Path | None]) -> None:
        """None of the relative paths exists: the images may be in one folder, under their file names."""
        bases = {name: PurePosixPath(name).name for name in files}
        if len(set(bases.values())) < len(files) or all(name == base for name, base in bases.items()):
            return
        plain: dict[str, Path | None] = dict.fromkeys(bases.values())
        self.search_others("", plain)
        folder = self._main_folder(plain)
        if folder is not None:
            files.update({name: plain[base] or folder / base for name, base in bases.items()})


def _list_files(folder: Path) -> dict[str, str]:
    """Name -> file in a folder; image files also under their names without suffix."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if is_file(entry)]
    except (OSError, ValueError):  # it does not exist, is not readable, or its name has a NUL byte
        return {}
    stems = {os.path.splitext(name)[0]: name for name in sorted(names, reverse=True) if is_image_name(name)}  # noqa: PTH122
    return stems | {name: name for name in names}


def _list_folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(Path(e.path) for e in entries if is_folder(e) and not e.name.startswith("."))
    except OSError:  # not readable
        return []

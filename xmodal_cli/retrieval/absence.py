"""What an update must not take for deleted: photos of a disk that is not mounted, or of a folder that cannot be read.

Absence is judged per root, per mount point and per link. A root that is unreachable or empty, although the index has
photos of it, is refused; below a root, the photos are kept and reported. ``remove_missing`` confirms that absent photos
were deleted; it does not concern files and folders that exist but cannot be accessed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xmodal_cli.data.scan import EXCLUDED_HINT, Scan, raise_if_absent, unreachable
from xmodal_cli.errors import MissingData
from xmodal_cli.retrieval.hints import index_command

UNMOUNTED = "a disk was mounted here, and is not now"


def check_roots(scan: Scan, known: KnownRoots, remove_missing: bool) -> None:
    """Raises MissingData for a root that is absent, unless it is confirmed that its photos were deleted."""
    has_known = False
    for root, reason in {**scan.unreachable_roots, **scan.empty_roots}.items():
        count = known.counts[root]
        is_confirmed = remove_missing and is_gone(root)
        if count and not is_confirmed:
            raise _refusal(scan, known, root, reason, count)
        if root in scan.unreachable_roots and not (is_confirmed and (count or root in known.roots)):
            raise _unreachable(scan, known, root)
        has_known = has_known or count > 0
    if not has_known:
        raise_if_absent(scan)


@dataclass(frozen=True)
class KnownRoots:
    """The index before an update: its name in commands, its roots, and the number of its photos in absent ones."""

    index: str
    roots: Sequence[str]
    counts: Mapping[str, int]


def is_gone(root: str) -> bool:
    """Whether a root does not exist or can be listed, rather than being there and not readable."""
    try:
        with os.scandir(root):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def _unreachable(scan: Scan, known: KnownRoots, root: str) -> MissingData:
    """The error for a root that cannot be accessed, and of which the index has no photos."""
    error = unreachable(scan, root)
    if root not in known.roots:
        return error
    return MissingData(error.message, f"{error.hint}; {_removal(known, root)}")


def _removal(known: KnownRoots, root: str) -> str:
    """The hint to remove a root from the index, or the index if it has no other."""
    if len(known.roots) == 1:
        return f"to delete the index: {index_command('--delete', known.index)}"
    return f"to remove it from the index: {index_command('--remove', root, index=known.index)}"


def _refusal(scan: Scan, known: KnownRoots, root: str, reason: str, count: int) -> MissingData:
    is_excluded = root in scan.empty_roots and bool(scan.excluded_by_pattern(root))
    hints = [EXCLUDED_HINT if is_excluded else "mount its disk or restore it, then run this command again"]
    if others := [r for r in scan.roots if r not in scan.unreachable_roots and r not in scan.empty_roots]:
        hints.append(f"to update only the other folders: {index_command(*others, index=known.index)}")
    given = [] if set(scan.roots) == set(known.roots) else scan.roots
    if is_excluded:
        hints.extend([_removal(known, root)] if root in known.roots else [])
    elif is_gone(root):
        hints.append(f"if it was renamed: {index_command('NEWPATH', index=known.index)}")
        hints.append(f"if its photos were deleted: {index_command(*given, index=known.index)} --remove-missing")
    elif root in known.roots:
        hints.append(_removal(known, root))
    photos = "photo" if count == 1 else "photos"
    message = f"{root}: {reason.lower()}; it had {count} {photos} when the index {known.index!r} was updated"
    return MissingData(f"{message}; nothing was changed", "; ".join(hints))


def absent_paths(scan: Scan, mounts: Iterable[str], remove_missing: bool) -> dict[str, str]:
    """The files and folders whose photos are kept although they were not found, with the reason.

    ``mounts`` are the mount points when the index was updated before.
    """
    kept = scan.unreadable()
    if remove_missing:
        return kept
    unmounted = {mount: UNMOUNTED for mount in mounts if not scan.mounts.get(mount, False)}
    return {**unmounted, **scan.absent, **kept}

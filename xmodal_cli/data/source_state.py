"""A value that changes when the files of a dataset change; computing it takes milliseconds, also for large datasets."""

from __future__ import annotations

import os
from pathlib import Path

from xmodal_cli.data.image_names import is_image_name

SourceState = tuple[tuple[str, int, int], ...]


def source_state(source: Path) -> SourceState:
    """(name, size in bytes, time in ns) of each file and folder in the folder of a dataset, and of the folder itself.

    ``source`` is the folder, or a file in it. Image files count by the time of their folder, which changes when one is
    added, deleted or renamed. The content of deeper folders does not count. Raises OSError.
    """
    folder = source if source.is_dir() else source.parent
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_image_name(entry.name):
                status = entry.stat(follow_symlinks=os.path.exists(entry.path))  # noqa: PTH110 - a link to nothing
                found.append((entry.name, status.st_size, status.st_mtime_ns))
    own = folder.stat()
    return (("", own.st_size, own.st_mtime_ns), *sorted(found))

"""The official token file of Flickr8k and Flickr30k, with the split lists beside it.

``Flickr8k.token.txt`` has lines ``NAME.jpg#0<tab>caption``; ``Flickr_8k.trainImages.txt`` and its like one name a line.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.formats._common import listed_examples, only_file
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import read_lines
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 20
SUFFIXES = (".token", ".txt")
PATTERNS = ("Flickr8k.token.txt", "*.token.txt", "*.token")


def matches(path: Path) -> bool:
    """The token file itself, or the folder that holds it."""
    return _token_file(path) is not None


def read(path: Path) -> tuple[Example, ...]:
    """Pictures that no list names have the split ``unused``; names that are not a picture's are dropped.

    Without any list, as with Flickr30k's own file, splits are invented from the names.
    """
    file = _token_file(path) or path
    captions: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, mark, _ = key.rpartition("#")
        if not tab or not mark:
            raise BadData(f"{file}, line {number} is not NAME#NUMBER<tab>caption", f"it reads {line[:60]!r}")
        if is_image_name(name):  # the official file has one that is not: 2258277193_586949ec62.jpg.1
            captions.setdefault(name, []).append(caption.strip())
    return listed_examples(file, captions)


def _token_file(path: Path) -> Path | None:
    return next((file for pattern in PATTERNS if (file := only_file(path, pattern)) is not None), None)

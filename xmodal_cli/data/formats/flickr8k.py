"""The official token file of Flickr8k and Flickr30k, with the split lists in the same folder.

Lines of ``Flickr8k.token.txt`` are ``NAME.jpg#0<tab>caption``; ``Flickr_8k.trainImages.txt``, ``devImages`` and
``testImages`` have one file name per line.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.formats._common import build_examples, first_file
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import read_lines
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 20
SUFFIXES = (".token", ".txt")
PATTERNS = ("Flickr8k.token.txt", "*.token.txt", "*.token")


def matches(path: Path) -> bool:
    """The token file, or the folder that contains it."""
    return _token_file(path) is not None


def read(path: Path) -> tuple[Example, ...]:
    """Images in no split list have the split ``unused``; names that are not image file names are dropped.

    Without split lists, as in Flickr30k, splits are ``split_by_hash``. Raises BadData.
    """
    file = _token_file(path) or path
    captions: dict[str, list[str]] = {}
    for line_number, line in enumerate(read_lines(file), 1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, hash_sign, _ = key.rpartition("#")
        if not tab or not hash_sign:
            raise BadData(f"{file}, line {line_number} is not NAME#NUMBER<tab>caption", f"it reads {line[:60]!r}")
        if is_image_name(name):  # the official file has an invalid name: 2258277193_586949ec62.jpg.1
            captions.setdefault(name, []).append(caption.strip())
    return build_examples(file, captions)


def _token_file(path: Path) -> Path | None:
    return next((file for pattern in PATTERNS if (file := first_file(path, pattern)) is not None), None)

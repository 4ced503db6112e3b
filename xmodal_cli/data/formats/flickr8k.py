"""The official token file of Flickr8k and Flickr30k, with the split lists in the same folder.

Lines of ``Flickr8k.token.txt`` are ``NAME.jpg#0<tab>caption``; ``Flickr_8k.trainImages.txt``, ``devImages`` and
``testImages`` have one file name per line.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import RowLog, build_examples, first_file, text_rows
from xmodal_cli.data.image_names import is_image_name

PRIORITY = 20
SUFFIXES = (".token", ".txt")
PATTERNS = ("Flickr8k.token.txt", "*.token.txt", "*.token")
EXPECTED = "each line is NAME.jpg#NUMBER<tab>caption"


def matches(path: Path) -> bool:
    """The token file, or the folder that contains it."""
    return _token_file(path) is not None


def read(path: Path) -> DatasetContents:
    """Images in no split list have the split ``unused``; rows that are not of an image file name are skipped.

    Without split lists, as in Flickr30k, splits are ``split_by_hash``. Raises BadData.
    """
    file = _token_file(path) or path
    captions: dict[str, list[str]] = {}
    log = RowLog()
    for line_number, line in text_rows(file, log):
        key, tab, caption = line.partition("\t")
        name, hash_sign, _ = key.rpartition("#")
        if not tab or not hash_sign:
            log.skip(f"{file}, line {line_number}", f"is not NAME#NUMBER<tab>caption: {line[:60]!r}")
        elif not is_image_name(name):  # the official file has an invalid name: 2258277193_586949ec62.jpg.1
            log.skip(f"{file}, line {line_number}", f"is of {name[:60]!r}, not an image file name")
        else:
            captions.setdefault(name, []).append(caption.strip())
    return log.contents(build_examples(file, captions), file, EXPECTED)


def _token_file(path: Path) -> Path | None:
    return next((file for pattern in PATTERNS if (file := first_file(path, pattern)) is not None), None)

"""The precomputed format of VSE and VSE++: captions one a line, image features as rows of a ``.npy`` file.

Kiros' files repeat an image's row for each of its captions; VSE++'s have one row per image and the same number of
captions each. ``train.txt`` + ``train.npy``, ``train_caps.txt`` + ``train_ims.npy``, with or without a prefix
(``f8k_train_caps.txt``).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from xmodal_cli.data.npy_files import map_features
from xmodal_cli.data.text_files import read_lines
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example, FeatureRow

PRIORITY = 40
SPLITS = {"train": "train", "dev": "val", "val": "val", "test": "test", "restval": "restval"}
NAME = re.compile(rf"(?P<stem>(?:.*_)?(?P<split>{'|'.join(SPLITS)}))(?P<tail>_caps)?\.txt")
COMPARED = 64  # columns that tell two images apart


def matches(path: Path) -> bool:
    """A folder with at least one pair of captions and rows."""
    return path.is_dir() and bool(_pairs(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are the split and the image's number; there are no pictures."""
    return tuple(example for split, pair in _pairs(path).items() for example in _read_pair(split, *pair))


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Split -> (captions, rows)."""
    found: dict[str, tuple[Path, Path]] = {}
    for file in sorted(folder.glob("*.txt")):
        name = NAME.fullmatch(file.name)
        if name is None:
            continue
        for rows in (file.with_name(f"{name['stem']}_ims.npy"), file.with_name(f"{name['stem']}.npy")):
            if rows.is_file():
                found.setdefault(SPLITS[name["split"]], (file, rows))
    return {split: found[split] for split in dict.fromkeys(SPLITS.values()) if split in found}


def _read_pair(split: str, captions_file: Path, rows_file: Path) -> list[Example]:
    captions = [line.strip() for line in read_lines(captions_file)]
    rows = map_features(rows_file)
    firsts = _first_rows(rows, len(captions))
    if firsts is None:
        raise BadData(
            f"{rows_file} has {len(rows)} rows for {len(captions)} captions in {captions_file.name}",
            "there must be a row per caption, or the same number of captions for each row",
        )
    per_row = len(captions) // len(rows)
    bounds = [row * per_row for row in (*firsts, len(rows))]
    return [
        Example(f"{split}-{n}", None, tuple(captions[bounds[n] : bounds[n + 1]]), split, FeatureRow(rows_file, row))
        for n, row in enumerate(firsts)
    ]


def _first_rows(rows: np.ndarray, num_captions: int) -> list[int] | None:
    """The first row of each image; None where rows and captions do not fit together."""
    if not len(rows) or not num_captions or num_captions % len(rows):
        return None
    if num_captions > len(rows):
        return list(range(len(rows)))
    sample = np.asarray(rows.reshape(len(rows), -1)[:, :COMPARED])
    changes = np.any(sample[1:] != sample[:-1], axis=1)
    return [0, *(np.flatnonzero(changes) + 1).tolist()]

"""The precomputed format of VSE and VSE++: one caption per line, image features as rows of a ``.npy`` file.

In the files of VSE (Kiros et al. 2014) an image's row is repeated for each of its captions; those of VSE++ have one
row per image and the same number of captions for each. Names are ``train.txt`` and ``train.npy``, or
``train_caps.txt`` and ``train_ims.npy``, with or without a prefix (``f8k_train_caps.txt``).
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
NUM_COMPARED = 64  # feature columns compared to detect the next image


def matches(path: Path) -> bool:
    """A folder with at least one pair of caption file and feature file."""
    return path.is_dir() and bool(_pairs(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are ``SPLIT-INDEX``; examples have features and no image file. Raises BadData."""
    return tuple(example for split, pair in _pairs(path).items() for example in _read_pair(split, *pair))


def _pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Split -> (caption file, feature file)."""
    pairs: dict[str, tuple[Path, Path]] = {}
    for file in sorted(folder.glob("*.txt")):
        name = NAME.fullmatch(file.name)
        if name is None:
            continue
        for rows in (file.with_name(f"{name['stem']}_ims.npy"), file.with_name(f"{name['stem']}.npy")):
            if rows.is_file():
                pairs.setdefault(SPLITS[name["split"]], (file, rows))
    return {split: pairs[split] for split in dict.fromkeys(SPLITS.values()) if split in pairs}


def _read_pair(split: str, captions_file: Path, rows_file: Path) -> list[Example]:
    captions = [line.strip() for line in read_lines(captions_file)]
    rows = map_features(rows_file)
    first_rows = _first_rows(rows, len(captions))
    if first_rows is None:
        raise BadData(
            f"{rows_file} has {len(rows)} rows for {len(captions)} captions in {captions_file.name}",
            "there must be one row per caption, or the same number of captions for each row",
        )
    per_row = len(captions) // len(rows)
    bounds = [row * per_row for row in (*first_rows, len(rows))]
    return [
        Example(f"{split}-{n}", None, tuple(captions[bounds[n] : bounds[n + 1]]), split, FeatureRow(rows_file, row))
        for n, row in enumerate(first_rows)
    ]


def _first_rows(rows: np.ndarray, num_captions: int) -> list[int] | None:
    """The first row of each image; None if the counts of rows and captions do not match."""
    if not len(rows) or not num_captions or num_captions % len(rows):
        return None
    if num_captions > len(rows):
        return list(range(len(rows)))
    sample = np.asarray(rows.reshape(len(rows), -1)[:, :NUM_COMPARED])
    changes = np.any(sample[1:] != sample[:-1], axis=1)
    return [0, *(np.flatnonzero(changes) + 1).tolist()]

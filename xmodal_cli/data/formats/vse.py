"""The precomputed format of VSE and VSE++: one caption per line, image features as rows of a ``.npy`` file.

In the files of VSE (Kiros et al. 2014) an image's row is repeated for each of its captions; those of VSE++ have one
row per image and the same number of captions for each. Names are ``train.txt`` and ``train.npy``, or
``train_caps.txt`` and ``train_ims.npy``, with or without a prefix (``f8k_train_caps.txt``). A folder with several
prefixes has several datasets; a file of one of them chooses it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.npy_files import map_features
from xmodal_cli.data.row_groups import group_rows
from xmodal_cli.data.text_files import read_lines
from xmodal_cli.errors import BadData
from xmodal_cli.splits import SPLITS
from xmodal_cli.types import Example, FeatureRow

PRIORITY = 40
SUFFIXES = (".npy", ".txt")
NAME = re.compile(rf"(?P<stem>(?P<prefix>.*_|)(?P<split>{'|'.join(SPLITS)}))(?P<tail>_caps|_ims)?\.(txt|npy)")


def matches(path: Path) -> bool:
    """A folder with at least one pair of caption file and feature file, or a file of such a pair."""
    return bool(_sets(path))


def read(path: Path) -> DatasetContents:
    """Ids are ``SPLIT-INDEX``; examples have features and no image file. Raises BadData."""
    sets = _sets(path)
    if len(sets) > 1:
        choices = " or ".join(str(next(iter(pairs.values()))[0]) for pairs in sets.values())
        names = ", ".join(prefix.rstrip("_") or "without prefix" for prefix in sets)
        raise BadData(f"{path} has {len(sets)} datasets: {names}", f"choose one by one of its files: {choices}")
    pairs = next(iter(sets.values()))
    read_pairs = [_read_pair(split, *pair) for split, pair in pairs.items()]
    notes = [*_compare_shapes([rows for _, rows in pairs.values()]), *(n for _, notes in read_pairs for n in notes)]
    return DatasetContents(tuple(example for examples, _ in read_pairs for example in examples), notes=tuple(notes))


def _sets(path: Path) -> dict[str, dict[str, tuple[Path, Path]]]:
    """Prefix -> split -> (caption file, feature file)."""
    given = NAME.fullmatch(path.name) if path.is_file() else None
    if not path.is_dir() and given is None:
        return {}
    sets: dict[str, dict[str, tuple[Path, Path]]] = {}
    for file in sorted((path if path.is_dir() else path.parent).glob("*.txt")):
        name = NAME.fullmatch(file.name)
        if name is None or (given is not None and name["prefix"] != given["prefix"]):
            continue
        for rows in (file.with_name(f"{name['stem']}_ims.npy"), file.with_name(f"{name['stem']}.npy")):
            if rows.is_file():
                sets.setdefault(name["prefix"], {}).setdefault(SPLITS[name["split"]], (file, rows))
    return {
        prefix: {s: pairs[s] for s in dict.fromkeys(SPLITS.values()) if s in pairs} for prefix, pairs in sets.items()
    }


def _compare_shapes(files: Sequence[Path]) -> list[str]:
    """A remark for each file whose rows have another shape than those of the first file."""
    shapes = [" x ".join(map(str, map_features(file).shape[1:])) for file in files]
    return [
        f"{file} has rows of {shape} values, {files[0].name} has rows of {shapes[0]}: they are of different networks"
        for file, shape in zip(files, shapes, strict=True)
        if shape != shapes[0]
    ]


def _read_pair(split: str, captions_file: Path, rows_file: Path) -> tuple[list[Example], list[str]]:
    """The examples of a split, and remarks."""
    captions = [line.strip() for line in read_lines(captions_file)]
    num_rows = len(map_features(rows_file))
    if not num_rows or not captions or len(captions) % num_rows:
        raise BadData(
            f"{rows_file} has {num_rows} rows for {len(captions)} captions in {captions_file.name}",
            "there must be one row per caption, or the same number of captions for each row",
        )
    per_row = len(captions) // num_rows
    if per_row > 1:
        groups = [(row, tuple(range(row * per_row, (row + 1) * per_row))) for row in range(num_rows)]
    else:
        groups = [(group[0], group) for group in group_rows(rows_file)]
    examples = [
        Example(f"{split}-{n}", None, tuple(captions[c] for c in numbers), split, FeatureRow(rows_file, row))
        for n, (row, numbers) in enumerate(groups)
    ]
    return examples, _remarks(rows_file, [len(numbers) for _, numbers in groups], num_rows)


def _remarks(file: Path, sizes: Sequence[int], num_rows: int) -> list[str]:
    """What is unusual about the numbers of captions: images are separated by their features alone."""
    counts = Counter(sizes)
    if len(sizes) == 1 and num_rows > 1:
        return [f"{file}: all {num_rows:,} rows are equal, so that they are one image"]
    if len(counts) > 1:
        usual, _ = counts.most_common(1)[0]
        others = len(sizes) - counts[usual]
        return [f"{file}: {others:,} of {len(sizes):,} images do not have {usual} captions, as most do"]
    return []

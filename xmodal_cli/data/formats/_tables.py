"""Reads caption tables as dataset contents; shared by the formats ``kaggle`` and ``table``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xmodal_cli.data.caption_columns import EXPECTED
from xmodal_cli.data.caption_tables import find_layout, header_of, read_table
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import RowLog, build_examples
from xmodal_cli.data.image_files import locate_images
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.errors import BadData
from xmodal_cli.splits import canonical_split, split_in_name
from xmodal_cli.types import Example


@dataclass
class _Image:
    """An image of a table, with all rows that name it."""

    line: int
    captions: list[str] = field(default_factory=list)
    split: str = ""


def read_tables(files: Sequence[Path], root: Path) -> DatasetContents:
    """The images and captions of tables, ``files`` in ``root`` or in a folder per split.

    Splits are those of a column, of the name of a file or folder, or of official lists, else ``split_by_hash``.
    Raises BadData for a table with unknown columns, and if no row can be used.
    """
    log = RowLog()
    examples: list[Example] = []
    for file in files:
        folder = file.parent.name if file.parent != root and root.is_dir() else ""
        examples += _read_file(file, folder, log)
    return log.contents(examples, files[0], EXPECTED)


def unknown_table(file: Path) -> BadData:
    """The error for a table whose columns are unknown."""
    header = header_of(file)
    return BadData(f"{file} has an unknown header: {header!r}" if header else f"{file} is empty", EXPECTED)


def _read_file(file: Path, folder: str, log: RowLog) -> list[Example]:
    layout = find_layout(file)
    if layout is None:
        raise unknown_table(file)
    images: dict[str, _Image] = {}
    for row in read_table(file, layout):
        if row.problem:
            log.skip(f"{file}, line {row.line}", row.problem)
            continue
        image = images.setdefault(row.image, _Image(row.line))
        image.captions += row.captions
        image.split = image.split or canonical_split(row.split)
    if not layout.image_is_id:
        images = _drop_unknown_names(file, images, log)
    split = split_in_name(file.name.partition(".")[0]) or split_in_name(folder)
    if split is None and not any(image.split for image in images.values()):
        return build_examples(file, {name: image.captions for name, image in images.items()})
    return _examples(file, folder, images, split or "train")


def _drop_unknown_names(file: Path, images: dict[str, _Image], log: RowLog) -> dict[str, _Image]:
    """Without the rows whose image is neither an image file name nor, without suffix, that of an existing file."""
    unclear = [name for name in images if not is_image_name(name)]
    paths = locate_images(file.parent, [(name, "") for name in unclear]) if unclear else []
    for name, path in zip(unclear, paths, strict=True):
        if not is_image_name(path.name):
            log.skip(f"{file}, line {images[name].line}", f"is of {name[:60]!r}, not an image file name")
            del images[name]
    return images


def _examples(file: Path, folder: str, images: dict[str, _Image], default_split: str) -> list[Example]:
    splits = [image.split or default_split for image in images.values()]
    paths = locate_images(file.parent, list(zip(images, splits, strict=True)), default="")
    prefix = f"{folder}/" if folder else ""
    return [
        Example(f"{prefix}{name}", path, tuple(image.captions), split)
        for (name, image), path, split in zip(images.items(), paths, splits, strict=True)
    ]

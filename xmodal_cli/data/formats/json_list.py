"""JSON lists of ``{"image": ..., "caption": ...}``, as BLIP, ALBEF and LAVIS publish them, one file per split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.data.caption_columns import FILE_COLUMNS, find_key
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import RowLog, find_files, parse_captions
from xmodal_cli.data.image_files import locate_images
from xmodal_cli.data.json_starts import is_caption_list
from xmodal_cli.data.text_files import read_json
from xmodal_cli.errors import BadData
from xmodal_cli.splits import canonical_split, split_in_name
from xmodal_cli.types import Example

PRIORITY = 38
SUFFIXES = (".json", ".gz")
PATTERNS = ("*.json", "*.json.gz", "*.jsonl", "*.jsonl.gz")  # content decides
EXPECTED = 'each entry is {"image": "a.jpg", "caption": "a dog"}; the caption can be a list'


def matches(path: Path) -> bool:
    """A JSON list of images and captions, or a folder with such files, also in ``annotations/``.

    Reads the beginning of the files.
    """
    return bool(_files(path))


def read(path: Path) -> DatasetContents:
    """The image id is the image as given. The default of ``split`` is that in the file's name, else train.

    Entries of the same image are merged. Raises BadData.
    """
    files, log = _files(path), RowLog()
    images: dict[str, tuple[list[str], str]] = {}
    for file in files:
        _read_file(file, images, log)
    root = path if path.is_dir() else files[0].parent
    root = root.parent if root.name in ("annotations", "annotation") else root
    names = [(name, split) for name, (_, split) in images.items()]
    examples = [
        Example(name, image, tuple(captions), split)
        for (name, (captions, split)), image in zip(images.items(), locate_images(root, names, ""), strict=True)
    ]
    return log.contents(examples, files[0], EXPECTED)


def _read_file(file: Path, images: dict[str, tuple[list[str], str]], log: RowLog) -> None:
    """Add the entries of a file to ``images``: name -> (captions, split)."""
    entries = read_json(file)
    if not isinstance(entries, list):
        raise BadData(f"{file} is not a list", EXPECTED)
    default_split = split_in_name(file.name.partition(".")[0]) or "train"
    for position, entry in enumerate(entries, 1):
        where = f"{file}, entry {position}"
        try:
            captions, split = parse_captions(entry), canonical_split(str(entry.get("split") or default_split))
            for name in _image_names(entry):
                known, known_split = images.setdefault(name, ([], split))
                if known_split != split:
                    hint = "an image belongs to one split; give one file, or list the image once"
                    raise BadData(f"{where} has the image {name} of {known_split} in {split}", hint)
                known += captions
        except ValueError as error:
            log.skip(where, str(error))


def _image_names(entry: dict[str, Any]) -> list[str]:
    """The images of an entry: one, or a list. Raises ValueError."""
    key = find_key(entry, FILE_COLUMNS)
    value = entry[key] if key is not None else None
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"has {str(value)[:40]!r} as 'image'")
    return names


def _files(path: Path) -> list[Path]:
    files = [file for file in find_files(path, *PATTERNS) if is_caption_list(file)]
    if files or path.is_file():
        return files
    folders = (path / "annotations", path / "annotation")
    return [f for folder in folders for f in find_files(folder, *PATTERNS) if is_caption_list(f)]

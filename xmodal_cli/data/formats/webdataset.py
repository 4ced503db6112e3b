"""Webdataset shards: tar files in which ``0001.jpg`` stands beside ``0001.txt`` or ``0001.json``. Read in place."""

from __future__ import annotations

import json
from pathlib import Path

from xmodal_cli.data import tar
from xmodal_cli.data.images import is_image_name
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 50
SPLITS = {"train": "train", "val": "val", "dev": "val", "test": "test"}


def matches(path: Path) -> bool:
    """A tar file, or a folder that holds some."""
    return bool(_shards(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are the members' keys; the split is the one that a shard's name contains, else train."""
    examples = tuple(example for shard in _shards(path) for example in _read_shard(shard))
    if not examples:
        raise BadData(f"the shards of {path} hold no pictures", "members must be pairs such as 0001.jpg and 0001.txt")
    return examples


def _read_shard(shard: Path) -> list[Example]:
    split = next((to for word, to in SPLITS.items() if word in shard.stem.lower()), "train")
    names = tar.members(shard)
    captions: dict[str, tuple[str, ...]] = {}
    with open(shard, "rb") as file:
        for name, place in names.items():
            if name.endswith((".txt", ".json")):
                captions.setdefault(_key(name), _captions(shard, name, tar.read_at(file, place)))
    pictures = [name for name in names if is_image_name(name)]
    return [Example(_key(name), shard / name, captions.get(_key(name), ()), split) for name in pictures]


def _captions(shard: Path, name: str, content: bytes) -> tuple[str, ...]:
    try:
        text = content.decode("utf-8")
        if name.endswith(".txt"):
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        entry = json.loads(text)
        found = entry.get("captions", entry.get("caption", []))
        return tuple(str(c).strip() for c in ([found] if isinstance(found, str) else found))
    except (ValueError, AttributeError, TypeError) as error:
        raise BadData(f"{shard}, member {name} cannot be used: {error}", "it must be UTF-8 text or JSON") from error


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.split(".")[0]


def _shards(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".tar" else []
    return sorted(path.glob("*.tar"))

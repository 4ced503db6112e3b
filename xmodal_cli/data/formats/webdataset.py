"""WebDataset shards: tar files with pairs ``0001.jpg`` and ``0001.txt`` or ``0001.json``. Nothing is extracted."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from xmodal_cli.data import tar
from xmodal_cli.data.formats._common import SPLITS, find_files, parse_captions
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import parse_json
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 50
SUFFIXES = (".tar",)


def matches(path: Path) -> bool:
    """A tar file, or a folder with tar files in it or in its subfolders."""
    return bool(_shards(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are the members' keys, prefixed with the shard's name if a key is not unique.

    The split is the first word that is a split in the shard's or its folder's name (``f8k-val-000.tar``), else train.
    Raises BadData.
    """
    examples = [(shard, example) for shard in _shards(path) for example in _read_shard(shard, _split(shard, path))]
    if not examples:
        raise BadData(f"the shards of {path} contain no images", "members must be pairs such as 0001.jpg and 0001.txt")
    counts = Counter(example.image_id for _, example in examples)
    return tuple(e if counts[e.image_id] == 1 else _prefix_id(e, shard, path) for shard, e in examples)


def _prefix_id(example: Example, shard: Path, root: Path) -> Example:
    return Example(f"{_shard_name(shard, root)}/{example.image_id}", example.path, example.captions, example.split)


def _split(shard: Path, root: Path) -> str:
    words = re.split(r"[^a-z]+", _shard_name(shard, root).lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "train")


def _shard_name(shard: Path, root: Path) -> str:
    """The shard's path relative to ``root``, without suffix."""
    relative = shard.relative_to(root) if shard != root else Path(shard.name)
    return relative.with_suffix("").as_posix()


def _read_shard(shard: Path, split: str) -> list[Example]:
    members = tar.index_members(shard)
    captions: dict[str, tuple[str, ...]] = {}
    with open(shard, "rb") as file:
        for name, member in members.items():
            if name.endswith((".txt", ".json")) and not captions.get(_key(name)):  # the first with captions
                captions[_key(name)] = _parse_member(f"{shard}, member {name}", tar.read_bytes(file, member))
    images = [name for name in members if is_image_name(name)]
    return [Example(_key(name), shard / name, captions.get(_key(name), ()), split) for name in images]


def _parse_member(where: str, content: bytes) -> tuple[str, ...]:
    try:
        text = content.decode("utf-8-sig")
        if where.endswith(".txt"):
            return tuple(line.strip() for line in text.split("\n") if line.strip())
        return parse_captions(parse_json(text, where))
    except UnicodeDecodeError as error:
        raise BadData(f"{where} is not UTF-8 text", "recreate the shard with UTF-8 captions") from error
    except ValueError as error:
        raise BadData(f"{where} {error}", 'it must be JSON such as {"caption": "a dog"}') from error


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.split(".")[0]


def _shards(path: Path) -> list[Path]:
    return find_files(path, "*.tar") or find_files(path, "*/*.tar")

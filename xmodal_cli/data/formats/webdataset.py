"""Webdataset shards: tar files in which ``0001.jpg`` stands beside ``0001.txt`` or ``0001.json``. Read in place."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from xmodal_cli.data import tar
from xmodal_cli.data.formats._common import SPLITS, all_files, caption_list
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import parse_json
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 50
SUFFIXES = (".tar",)


def matches(path: Path) -> bool:
    """A tar file, or a folder that holds some, itself or in its folders."""
    return bool(_shards(path))


def read(path: Path) -> tuple[Example, ...]:
    """Ids are the members' keys, with the shard's name before them where a key comes twice.

    The split is the word for one in a shard's or its folder's name (``f8k-val-000.tar``), else train.
    """
    read_in = [(shard, example) for shard in _shards(path) for example in _read_shard(shard, _split(shard, path))]
    if not read_in:
        raise BadData(f"the shards of {path} hold no pictures", "members must be pairs such as 0001.jpg and 0001.txt")
    times = Counter(example.image_id for _, example in read_in)
    return tuple(e if times[e.image_id] == 1 else _renamed(e, shard, path) for shard, e in read_in)


def _renamed(example: Example, shard: Path, root: Path) -> Example:
    place = shard.relative_to(root) if shard != root else Path(shard.name)
    image_id = f"{place.with_suffix('').as_posix()}/{example.image_id}"
    return Example(image_id, example.path, example.captions, example.split)


def _split(shard: Path, root: Path) -> str:
    place = shard.relative_to(root) if shard != root else Path(shard.name)
    words = re.split(r"[^a-z]+", place.with_suffix("").as_posix().lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "train")


def _read_shard(shard: Path, split: str) -> list[Example]:
    names = tar.members(shard)
    captions: dict[str, tuple[str, ...]] = {}
    with open(shard, "rb") as file:
        for name, place in names.items():
            if name.endswith((".txt", ".json")) and not captions.get(_key(name)):  # the first that has any
                captions[_key(name)] = _captions(f"{shard}, member {name}", tar.read_at(file, place))
    pictures = [name for name in names if is_image_name(name)]
    return [Example(_key(name), shard / name, captions.get(_key(name), ()), split) for name in pictures]


def _captions(where: str, content: bytes) -> tuple[str, ...]:
    try:
        text = content.decode("utf-8-sig")
        if where.endswith(".txt"):
            return tuple(line.strip() for line in text.split("\n") if line.strip())
        return caption_list(parse_json(text, where))
    except UnicodeDecodeError as error:
        raise BadData(f"{where} is not UTF-8 text", "make the shard again with UTF-8 captions") from error
    except ValueError as error:
        raise BadData(f"{where} {error}", 'it must be JSON such as {"caption": "a dog"}') from error


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.split(".")[0]


def _shards(path: Path) -> list[Path]:
    return all_files(path, "*.tar") or all_files(path, "*/*.tar")

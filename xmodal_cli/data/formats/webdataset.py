"""WebDataset shards: tar files with pairs ``0001.jpg`` and ``0001.txt`` or ``0001.json``. Nothing is extracted.

The shards are indexed instead of being read from their beginning to their end, as the library ``webdataset`` does: any
order of the images can then be repeated exactly, a run resumes without reading what it has trained on, and each process
reads only its own images. Uncompressed shards allow that; compressed ones are not read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from xmodal_cli.data import tar
from xmodal_cli.data.contents import DatasetContents
from xmodal_cli.data.formats._common import SPLITS, RowLog, find_files, parse_captions
from xmodal_cli.data.image_names import is_image_name
from xmodal_cli.data.text_files import parse_json
from xmodal_cli.errors import BadData
from xmodal_cli.types import Example

PRIORITY = 50
SUFFIXES = (".tar",)
_PAIRS = "members must be pairs such as 0001.jpg and 0001.txt"
_CAPTION_SUFFIXES = (".txt", ".json")


def matches(path: Path) -> bool:
    """A tar file, or a folder with tar files in it or in its subfolders. A compressed one only if it is the path."""
    return bool(_shards(path) or (path.is_file() and _compressed(path)))


def read(path: Path) -> DatasetContents:
    """Ids are the members' keys, prefixed with the shard's name if a key is not unique.

    The split is the first word that is a split in the shard's or its folder's name (``f8k-val-000.tar``), else train.
    Damaged shards have the images before the damage. Raises BadData.
    """
    log, shards = RowLog(), _shards(path)
    for file in _compressed(path):
        log.skip(f"{file}", "is compressed, and the images of a compressed shard cannot be read in any order")
    examples = [(shard, example) for shard in shards for example in _read_shard(shard, _split(shard, path), log)]
    if not examples and not log.rows:
        raise BadData(f"the shards of {path} contain no images", _PAIRS)
    counts = Counter(example.image_id for _, example in examples)
    unique = [e if counts[e.image_id] == 1 else _prefix_id(e, shard, path) for shard, e in examples]
    hint = "decompress it, for example with gunzip" if not shards else f"recreate or download it again; {_PAIRS}"
    return log.contents(unique, path, hint)


def _prefix_id(example: Example, shard: Path, root: Path) -> Example:
    return Example(f"{_shard_name(shard, root)}/{example.image_id}", example.path, example.captions, example.split)


def _split(shard: Path, root: Path) -> str:
    words = re.split(r"[^a-z]+", _shard_name(shard, root).lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "train")


def _shard_name(shard: Path, root: Path) -> str:
    """The shard's path relative to ``root``, without suffix."""
    relative = shard.relative_to(root) if shard != root else Path(shard.name)
    return relative.with_suffix("").as_posix()


def _read_shard(shard: Path, split: str, log: RowLog) -> list[Example]:
    """The images of a shard, with or without captions; what cannot be used is logged."""
    try:
        index = tar.index_archive(shard)
    except (BadData, OSError) as error:
        log.skip(f"{shard}", _reason(error, f"{shard} "))
        return []
    if index.problem:
        log.skip(f"{shard}", f"{index.problem}; {len(index.members):,} members before that are used")
    captions = _read_captions(shard, index.members, log)
    images = [name for name in index.members if is_image_name(name)]
    _log_unpaired(shard, captions.keys() - set(map(_key, images)), log)
    return [Example(_key(name), shard / name, captions.get(_key(name), ()), split) for name in images]


def _read_captions(shard: Path, members: dict[str, tar.Member], log: RowLog) -> dict[str, tuple[str, ...]]:
    captions: dict[str, tuple[str, ...]] = {}
    with open(shard, "rb") as file:
        for name, member in members.items():
            if not name.endswith(_CAPTION_SUFFIXES) or captions.get(_key(name)):  # the first with captions
                continue
            where = f"{shard}, member {name}"
            try:
                captions[_key(name)] = _parse_member(where, tar.read_bytes(file, member))
            except (ValueError, BadData) as error:
                log.skip(where, _reason(error, f"{where} "))
    return captions


def _log_unpaired(shard: Path, keys: Iterable[str], log: RowLog) -> None:
    for key in sorted(keys):
        log.skip(f"{shard}, member {key}", "has captions and no image")


def _reason(error: Exception, prefix: str) -> str:
    message = error.message if isinstance(error, BadData) else getattr(error, "strerror", None) or str(error)
    return str(message).removeprefix(prefix)


def _parse_member(where: str, content: bytes) -> tuple[str, ...]:
    """The captions of a member. Raises ValueError, BadData."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error
    if where.endswith(".txt"):
        return tuple(line.strip() for line in text.split("\n") if line.strip())
    return parse_captions(parse_json(text, where))


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.split(".")[0]


def _shards(path: Path) -> list[Path]:
    return find_files(path, "*.tar") or find_files(path, "*/*.tar")


def _compressed(path: Path) -> list[Path]:
    """Compressed archives: ``path``, or those in its folder."""
    return find_files(path, *(f"*{suffix}" for suffix in tar.COMPRESSED))

"""Decay: single bits of the files that xmodal writes are flipped; reading the whole file detects it or gives the same.

A few positions in the default run, 1,000 per file with ``-m faults``. Not covered: times, sizes and captions of photos
in the database of an index, whose rows have no checksums.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.files_of_data import make_summary
from helpers.files_of_models import make_captioner, make_export, make_matcher, make_state
from helpers.index_fixtures import PhotoIndexFixture, sort_small_segments

from xmodal_cli import json_checksum
from xmodal_cli.errors import XmodalError
from xmodal_cli.features.store import SUMMARY, open_store
from xmodal_cli.inference.onnx_folder import METADATA, verify_export
from xmodal_cli.inference.onnx_text_encoder import GRAPH, TOKENIZER, OnnxTextEncoder
from xmodal_cli.models.model_file import read_header, read_tensors
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.integrity import check_index
from xmodal_cli.training.checkpoint import read_state

QUICK, ALL = 60, 1000


@dataclass(frozen=True)
class Written:
    """A kind of file: ``make`` writes it into a folder, ``read`` gives everything in it that has a meaning."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]


def read_model(file: Path) -> Any:
    return read_header(file), {name: value.numpy().tobytes() for name, value in read_tensors(file).items()}


def read_checkpoint(file: Path) -> Any:
    state, tensors = read_state(file.parent)
    return state, {name: value.numpy().tobytes() for name, value in tensors.items()}


def make_shard(folder: Path) -> Path:
    return make_summary(folder).parent / "features-00000.safetensors"


def read_features(file: Path) -> Any:
    store = open_store(file.parent)
    store.verify()
    return store.summary, [shard.tobytes() for shard in store.shards]


def export_file(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = make_export(folder)
        file.write_text(json_checksum.to_text(json.loads(file.read_text())))
        return file.parent / name

    return make


def read_export(file: Path) -> Any:
    verify_export(file.parent)
    metadata = OnnxTextEncoder(file.parent, "f").folder.metadata
    facts = {name: metadata.get(name) for name in ("format", "fingerprint", "inputs", "length", "pad_id", "embed_dim")}
    return facts, file.parent.joinpath(GRAPH).read_bytes()


def make_index(folder: Path) -> PhotoIndexFixture:
    photos = PhotoIndexFixture(folder)
    photos.fill(30)
    photos.update()
    (photos.photos / "007.jpg").unlink()
    photos.update()
    return photos


def database_of_index(folder: Path) -> Path:
    return make_index(folder).index_folder / ITEMS


def segment_of_index(folder: Path) -> Path:
    return make_index(folder).segments()[0]


def read_index(file: Path) -> Any:
    folder = file.parent if file.name == ITEMS else file.parent.parent
    check_index(folder)
    with open_index(folder) as index:
        entries = list(index.items.all_items())
        vectors = index.vectors.take(index.vectors.rows_of(entries))
        return index.metadata, [(entry.item.path, entry.item.digest) for entry in entries], vectors.tobytes()


KINDS = {
    "matcher": Written(make_matcher, read_model),
    "captioner": Written(make_captioner, read_model),
    "checkpoint": Written(make_state, read_checkpoint),
    "features": Written(make_shard, read_features),
    SUMMARY: Written(make_summary, read_features),
    METADATA: Written(export_file(METADATA), read_export),
    GRAPH: Written(export_file(GRAPH), read_export),
    TOKENIZER: Written(export_file(TOKENIZER), read_export),
    "segment": Written(segment_of_index, read_index),
    ITEMS: Written(database_of_index, read_index),
}


def flip_bits(name: str, folder: Path, count: int) -> None:
    """Flip one bit at a time; a flip is refused, or changes nothing that has a meaning."""
    kind, rng = KINDS[name], random.Random(name)
    file = kind.make(folder)
    content, expected = file.read_bytes(), kind.read(file)
    num_refused = 0
    for bit in rng.sample(range(8 * len(content)), min(count, 8 * len(content))):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            found = kind.read(file)
        except XmodalError:
            num_refused += 1
            continue
        assert found == expected, f"bit {bit % 8} of byte {bit // 8} of {len(content)} changes what is read"
    assert num_refused > 0
    file.write_bytes(content)
    assert kind.read(file) == expected


@pytest.mark.parametrize("name", KINDS)
def test_a_few_flipped_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sort_small_segments(monkeypatch)
    flip_bits(name, tmp_path, QUICK)


@pytest.mark.faults
@pytest.mark.parametrize("name", KINDS)
def test_flipped_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sort_small_segments(monkeypatch)
    flip_bits(name, tmp_path, ALL)


def test_exchanged_shards_are_refused(tmp_path: Path) -> None:
    """Two shards of the same size with exchanged names: their vectors would belong to other images."""
    from helpers.files_of_data import META

    from xmodal_cli.features.shards import ShardMetadata, shard_path, write_shard
    from xmodal_cli.features.store import StoreSummary, write_summary

    for number, name in enumerate("ab"):
        write_shard(shard_path(tmp_path, number), [np.full(8, number)], ShardMetadata("plan", (name,), ()))
    write_summary(tmp_path, StoreSummary(META, ("a", "b"), (), (1, 1)))
    open_store(tmp_path).load()
    first, second = (shard_path(tmp_path, number) for number in (0, 1))
    spare = first.rename(tmp_path / "spare")
    second.rename(first)
    spare.rename(second)
    with pytest.raises(XmodalError, match="do not match"):
        open_store(tmp_path).load()

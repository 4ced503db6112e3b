"""The vectors of the images or the captions that a matcher was trained on, cached by model and dataset."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import add_hint, load_dataset
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.errors import ConfigError, MissingData, StorageError, UnknownName
from xmodal_cli.file_errors import parse_json
from xmodal_cli.inference.encoding import embed_images
from xmodal_cli.inference.exported_matcher import ExportedMatcher
from xmodal_cli.inference.matchers import LoadedMatcher
from xmodal_cli.paths import atomic_path, cache_dir
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import Example, ImageTextDataset

CHUNK = 1024  # captions encoded between two reports of the progress


def load_training_set(loaded: LoadedMatcher | ExportedMatcher, reporter: Reporter) -> ImageTextDataset:
    """The captioned images that the matcher was trained on. Raises ConfigError, MissingData."""
    facts = loaded.info.header.dataset
    name = facts.get("name")
    if not name:
        raise ConfigError(
            f"the training dataset of {loaded.name} is unknown", "use a matcher that was trained with xmodal"
        )
    try:
        dataset = load_dataset(name)
    except (MissingData, UnknownName) as error:
        raise MissingData(
            f"{loaded.name} was trained on {name}, which is not available: {error.message}",
            add_hint(name),
        ) from error
    if facts.get("fingerprint") not in (None, fingerprint(dataset)):
        reporter.warn(f"the dataset {name} has changed since {loaded.name} was trained on it")
    return select_captioned(dataset, *facts.get("splits", ("train",)))


def caption_vectors(
    loaded: LoadedMatcher | ExportedMatcher, train: ImageTextDataset, reporter: Reporter
) -> tuple[list[str], np.ndarray]:
    """The different captions in the order of the dataset, and their vectors (captions, embed_dim) float32."""
    captions = list(dict.fromkeys(train.captions))
    file = _cache_file("captions", loaded, train)
    cached = _read_cache(file, "captions")
    if cached is not None and len(cached[1]) == len(captions):
        return captions, cached[1]
    reporter.info(f"encoding the {len(captions):,} captions of {train.name} once; the vectors are cached")
    parts = []
    with reporter.task("captions", len(captions), "captions") as task:
        for start in range(0, len(captions), CHUNK):
            parts.append(loaded.embed_texts(captions[start : start + CHUNK]))
            task.advance(len(parts[-1]))
    vectors = np.concatenate(parts).astype(np.float32, copy=False)
    _write_cache(file, "captions", vectors, [])
    return captions, vectors


def training_image_vectors(
    loaded: LoadedMatcher | ExportedMatcher, train: ImageTextDataset, reporter: Reporter
) -> tuple[Sequence[Example], np.ndarray]:
    """The readable images, and their vectors (images, embed_dim) float32."""
    file = _cache_file("images", loaded, train)
    by_id = {example.image_id: example for example in train.examples}
    cached = _read_cache(file, "images")
    if cached is not None and len(cached[0]) == len(cached[1]) and all(image_id in by_id for image_id in cached[0]):
        return [by_id[image_id] for image_id in cached[0]], cached[1]
    readable, vectors = embed_images(loaded, train, reporter)
    _write_cache(file, "images", vectors, readable.ids)
    return readable.examples, vectors


def _cache_file(kind: str, loaded: LoadedMatcher | ExportedMatcher, train: ImageTextDataset) -> Path:
    return cache_dir() / "nearest" / f"{kind}-{loaded.info.fingerprint[:16]}-{fingerprint(train)[:16]}.safetensors"


def _read_cache(file: Path, kind: str) -> tuple[list[str], np.ndarray] | None:
    from safetensors import safe_open

    with contextlib.suppress(Exception), safe_open(file, "np") as opened:  # it is computed again
        ids: list[str] = parse_json(opened.metadata()["ids"])
        vectors: np.ndarray = opened.get_tensor(kind)
        return ids, vectors
    return None


def _write_cache(file: Path, kind: str, vectors: np.ndarray, ids: Sequence[str]) -> None:
    from safetensors.numpy import save_file

    with contextlib.suppress(StorageError), atomic_path(file) as draft:  # it can be computed again
        save_file({kind: np.ascontiguousarray(vectors)}, draft, {"ids": json.dumps(list(ids))})

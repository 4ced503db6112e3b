"""Evaluate matchers and embeddings files as the papers do: one result per model or file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from safetensors import SafetensorError, safe_open

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.errors import BadData, ConfigError, IncompatibleFeatures
from xmodal_cli.recipes.scoring import Embeddings, score_embeddings
from xmodal_cli.types import ImageTextDataset, Reporter, Silent

ARRAYS = ("images", "texts", "image_of_caption")
SIMILARITIES = ("cosine", "order")


def evaluate(
    what: list[str],
    data: str | None,
    split: str = "test",
    folds: int = 1,
    device: str = "auto",
    precision: str = "auto",
    reporter: Reporter | None = None,
) -> list[dict[str, Any]]:
    """One dictionary per model or embeddings file, in the order given, shaped as ``xmodal eval --json``.

    ``data`` may be None for embeddings files, which hold all that is needed. Raises XmodalError kinds for unknown
    models or data, features of another backbone, files that cannot be read.
    """
    dataset = load_dataset(data) if data is not None else None
    results = []
    for item in what:
        if is_embeddings(item):
            vectors = read_embeddings(Path(item))
            _check_counts(item, vectors, dataset, split)
            name = Path(item).name
        else:
            if dataset is None:
                raise ConfigError(f"{item} is a model, and a model needs data", "add --data, for example --data f8k")
            name, vectors = _embed(item, dataset, split, device, precision, reporter or Silent())
        head = {"model": name, "data": data, "split": split if data is not None else None}
        results.append({**head, **score_embeddings(vectors, folds)})
    return results


def is_embeddings(what: str) -> bool:
    """Whether ``what`` is an existing ``.npz`` or ``.safetensors`` file that holds vectors rather than a model."""
    path = Path(what)
    if not path.is_file():
        return False
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="np") as opened:
                return set(ARRAYS) <= set(opened.keys())
        except SafetensorError:
            return False  # the model reader tells what is wrong with it
    return path.suffix == ".npz"


def read_embeddings(file: Path) -> Embeddings:
    """The vectors of an embeddings file; for cosine they are scaled to unit length. Raises BadData."""
    try:
        arrays, similarity = _read_safetensors(file) if file.suffix == ".safetensors" else _read_npz(file)
        images, texts = (arrays[name].astype(np.float32) for name in ARRAYS[:2])
        owner = arrays["image_of_caption"].astype(np.int64)
    except (OSError, EOFError, TypeError, ValueError, KeyError, BadZipFile, SafetensorError) as error:
        wanted = f"it must hold the arrays {', '.join(ARRAYS)}"
        raise BadData(f"{file} cannot be read as embeddings: {error}", wanted) from error
    if similarity not in SIMILARITIES:
        raise BadData(f"{file} names the similarity {similarity!r}", f"known: {', '.join(SIMILARITIES)}")
    if similarity == "cosine":
        images, texts = _unit(images), _unit(texts)
    return Embeddings(images, texts, owner, similarity)


def _read_safetensors(file: Path) -> tuple[dict[str, np.ndarray], str]:
    with safe_open(file, framework="np") as opened:
        similarity = (opened.metadata() or {}).get("similarity", "cosine")
        return {name: opened.get_tensor(name) for name in ARRAYS}, similarity


def _read_npz(file: Path) -> tuple[dict[str, np.ndarray], str]:
    with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as opened:
        similarity = str(opened["similarity"]) if "similarity" in opened else "cosine"
        return {name: opened[name] for name in ARRAYS}, similarity


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12))


def _check_counts(item: str, vectors: Embeddings, dataset: ImageTextDataset | None, split: str) -> None:
    if dataset is None:
        return
    expected = len(dataset.select(split).examples)
    if len(vectors.images) != expected:
        raise IncompatibleFeatures(
            f"{item} holds {len(vectors.images)} images, {split} of {dataset.name} has {expected}",
            "name the split it was made of with --split, or leave --data out",
        )


def _embed(
    item: str, dataset: ImageTextDataset, split: str, device: str, precision: str, reporter: Reporter
) -> tuple[str, Embeddings]:
    from xmodal_cli.recipes.models import load_matcher
    from xmodal_cli.recipes.splits import captioned, with_features

    loaded = load_matcher(item, device, precision)
    settings = FeaturesConfig(loaded.meta.backbone, loaded.meta.kind, loaded.meta.crops)
    part, features = with_features(captioned(dataset, split), settings, loaded.device, precision, reporter)
    if features.meta.key() != loaded.meta.key():
        raise IncompatibleFeatures(
            f"{loaded.name} reads features of {loaded.meta.backbone}, {dataset.name} has {features.meta.backbone}",
            "evaluate on data with the same features, or train a model on these",
        )
    images, texts = loaded.embed_features(features.values), loaded.embed_texts(part.captions)
    return loaded.name, Embeddings(images, texts, part.image_of_caption, loaded.similarity)

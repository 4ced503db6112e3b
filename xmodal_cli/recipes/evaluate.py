"""Evaluate matchers and embeddings files as the papers do: one result per model or file."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from safetensors import SafetensorError, safe_open

from xmodal_cli.data.registry import load_dataset
from xmodal_cli.errors import BadData, ConfigError, IncompatibleFeatures
from xmodal_cli.recipes.ensemble import with_ensemble
from xmodal_cli.recipes.extras import Extras, Judged, add_figures, check_request, write_files
from xmodal_cli.recipes.scoring import Embeddings, Subject, figures, rank_folds
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
    extras: Extras | None = None,
) -> list[dict[str, Any]]:
    """One dictionary per model or embeddings file, in the order given, shaped as ``xmodal eval --json``.

    ``data`` may be None for embeddings files, which hold all that is needed. An ensemble, where ``extras`` asks for
    one, comes last. Raises XmodalError kinds for unknown models or data, features of another backbone, files that
    cannot be read, models that make no ensemble.
    """
    extras = extras or Extras()
    check_request(what, data, extras)
    dataset = load_dataset(data) if data is not None else None
    subjects = (_subject(item, dataset, split, device, precision, reporter or Silent()) for item in what)
    results, kept = [], []
    for subject in with_ensemble(subjects) if extras.ensemble else subjects:
        folds_of_it = rank_folds(subject.vectors, folds)
        head = {"model": subject.name, "data": data, "split": split if data is not None else None}
        results.append({**head, **add_figures(figures(subject.vectors, folds_of_it), subject, folds_of_it, extras)})
        if extras.writes:
            kept.append(Judged(subject, folds_of_it, results[-1]))
    write_files(kept, extras)
    return results


def _subject(
    item: str, dataset: ImageTextDataset | None, split: str, device: str, precision: str, reporter: Reporter
) -> Subject:
    """The vectors of one thing to evaluate, and what they are vectors of."""
    if is_embeddings(item):
        vectors = read_embeddings(Path(item))
        return Subject(Path(item).name, vectors, _part_of(item, vectors, dataset, split))
    if dataset is None:
        raise ConfigError(f"{item} is a model, and a model needs data", "add --data, for example --data f8k")
    return _embed(item, dataset, split, device, precision, reporter)


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


def _part_of(item: str, vectors: Embeddings, dataset: ImageTextDataset | None, split: str) -> ImageTextDataset | None:
    """The images and captions an embeddings file holds; None where there is no telling which captions they are."""
    if dataset is None:
        return None
    part = dataset.select(split)
    if len(vectors.images) != len(part.examples):
        raise IncompatibleFeatures(
            f"{item} holds {len(vectors.images)} images, {split} of {dataset.name} has {len(part.examples)}",
            "name the split it was made of with --split, or leave --data out",
        )
    return part if np.array_equal(vectors.image_of_caption, part.image_of_caption) else None


def _embed(
    item: str, dataset: ImageTextDataset, split: str, device: str, precision: str, reporter: Reporter
) -> Subject:
    from xmodal_cli.recipes.encoding import embed_images
    from xmodal_cli.recipes.models import load_matcher
    from xmodal_cli.recipes.splits import captioned

    loaded = load_matcher(item, device, precision)
    part, images = embed_images(loaded, captioned(dataset, split), precision, reporter)
    texts = loaded.embed_texts(part.captions)
    return Subject(loaded.name, Embeddings(images, texts, part.image_of_caption, loaded.similarity), part)

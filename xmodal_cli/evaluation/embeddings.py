"""Reads embeddings files, ``.npz`` or ``.safetensors``: image vectors, text vectors and the image of each text."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from safetensors import SafetensorError, safe_open

from xmodal_cli import catalog
from xmodal_cli.errors import BadData
from xmodal_cli.evaluation.scoring import Embeddings
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.unit_vectors import unit_vectors

ARRAYS = ("images", "texts", "image_of_caption")


def is_embeddings(what: str) -> bool:
    """Whether ``what`` is an existing ``.npz`` file, or a ``.safetensors`` file with embeddings instead of a model."""
    path = Path(what)
    if not path.is_file():
        return False
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="np") as opened:
                return set(ARRAYS) <= set(opened.keys())
        except SafetensorError:
            return False  # the model reader reports what is wrong with it
    return path.suffix == ".npz"


def read_embeddings(file: Path) -> Embeddings:
    """Read an embeddings file; vectors for the cosine similarity are L2-normalized. Raises BadData."""
    try:
        arrays, similarity = _read_safetensors(file) if file.suffix == ".safetensors" else _read_npz(file)
        images, texts = (arrays[name].astype(np.float32) for name in ARRAYS[:2])
        image_of_caption = arrays["image_of_caption"].astype(np.int64)
    except (OSError, EOFError, TypeError, ValueError, KeyError, BadZipFile, SafetensorError) as error:
        hint = f"it must contain the arrays {', '.join(ARRAYS)}"
        raise BadData(f"{file} cannot be read as embeddings: {error}", hint) from error
    if catalog.canonical(similarity) not in (known := catalog.names("similarity")):
        raise BadData(f"{file} has an unknown similarity {similarity!r}", f"known: {', '.join(known)}")
    if array_similarity(similarity).inner_product:
        images, texts = unit_vectors(images), unit_vectors(texts)
    return Embeddings(images, texts, image_of_caption, similarity)


def _read_safetensors(file: Path) -> tuple[dict[str, np.ndarray], str]:
    with safe_open(file, framework="np") as opened:
        similarity = (opened.metadata() or {}).get("similarity", "cosine")
        return {name: opened.get_tensor(name) for name in ARRAYS}, similarity


def _read_npz(file: Path) -> tuple[dict[str, np.ndarray], str]:
    with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as opened:
        similarity = str(opened["similarity"]) if "similarity" in opened else "cosine"
        return {name: opened[name] for name in ARRAYS}, similarity

"""Reads embeddings files, ``.npz`` or ``.safetensors``: image vectors, text vectors and the image of each text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xmodal_cli import catalog
from xmodal_cli.data.npz_files import read_npz
from xmodal_cli.errors import BadData
from xmodal_cli.evaluation.scoring import Embeddings
from xmodal_cli.evaluation.vectors_origin import KEYS, VectorsOrigin, from_arrays, from_strings
from xmodal_cli.file_errors import naming, open_safetensors, reading
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.retrieval.ranks import check_vectors
from xmodal_cli.unit_vectors import unit_vectors

ARRAYS = ("images", "texts", "image_of_caption")


def is_embeddings(what: str) -> bool:
    """Whether ``what`` is an existing ``.npz`` file, or a ``.safetensors`` file with embeddings instead of a model."""
    path = Path(what)
    if not path.is_file():
        return False
    if path.suffix == ".safetensors":
        try:
            with open_safetensors(path, "np") as opened:
                return set(ARRAYS) <= set(opened.keys())
        except Exception:  # of any type: not readable, too short
            return False  # the model reader reports what is wrong with it
    return path.suffix == ".npz"


def read_embeddings(file: Path) -> Embeddings:
    """Read an embeddings file; vectors for the cosine similarity are L2-normalized. Raises BadData."""
    with reading(file, f"it must contain the arrays {', '.join(ARRAYS)}", what="cannot be read as embeddings"):
        arrays, similarity, origin = _read_safetensors(file) if file.suffix == ".safetensors" else _read_npz(file)
        if not all(arrays[name].dtype.kind in "fiu" for name in ARRAYS):
            raise ValueError("its arrays are not of numbers")
        images, texts = (arrays[name].astype(np.float32) for name in ARRAYS[:2])
        image_of_caption = arrays["image_of_caption"].astype(np.int64)
    if catalog.canonical(similarity) not in (known := catalog.names("similarity")):
        raise BadData(f"{file} has an unknown similarity {similarity!r}", f"known: {', '.join(known)}")
    with naming(file):
        check_vectors(images, texts, image_of_caption, similarity)
    if array_similarity(similarity).inner_product:
        images, texts = unit_vectors(images), unit_vectors(texts)
    if origin is not None and len(origin.image_ids) != len(images):
        message = f"{file} has {len(origin.image_ids)} image ids for {len(images)} image vectors"
        raise BadData(message, "extract the vectors again with `xmodal features DATA --model M`")
    return Embeddings(images, texts, image_of_caption, similarity, origin)


_Read = tuple[dict[str, np.ndarray], str, VectorsOrigin | None]  # arrays, similarity, origin


def _read_safetensors(file: Path) -> _Read:
    with open_safetensors(file, "np") as opened:
        metadata = opened.metadata() or {}
        arrays = {name: opened.get_tensor(name) for name in ARRAYS}
        return arrays, metadata.get("similarity", "cosine"), from_strings(metadata)


def _read_npz(file: Path) -> _Read:
    arrays = read_npz(file, ARRAYS, optional=("similarity", *KEYS, "image_ids"))
    return arrays, str(arrays.pop("similarity", "cosine")), from_arrays(arrays)

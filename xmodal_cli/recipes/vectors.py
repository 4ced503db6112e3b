"""Write the embeddings of a matcher to a file: of the images and captions of a dataset, or of sentences.

``xmodal eval`` reads the file: arrays ``images`` (n, dim), ``texts`` (m, dim) and ``image_of_caption`` (m,), and the
name of the similarity; dataset, split, image ids and a fingerprint, so that they are not taken for another split.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli import paths
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.evaluation.vectors_origin import VectorsOrigin, origin_of
from xmodal_cli.inference import zero_shot
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import ImageTextDataset

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher

SUFFIXES = (".safetensors", ".npz")


@dataclass(frozen=True)
class DatasetVectors:
    """The written file with (images, dim) and (captions, dim) float32."""

    file: Path
    model: str
    data: str
    images: int
    captions: int
    dim: int


@dataclass(frozen=True)
class SentenceVectors:
    """The written file with (sentences, dim) float32, and the text file."""

    file: Path
    model: str
    text: Path
    sentences: int
    dim: int


def dataset_vectors(
    model: str,
    dataset: ImageTextDataset,
    out: Path | None = None,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> DatasetVectors:
    """Write the embeddings of the readable images of a dataset and their captions.

    Raises ConfigError for an unsupported file name, and the errors of loading the model and reading the images.
    """
    from xmodal_cli.inference.encoding import embed_images
    from xmodal_cli.inference.matchers import load_matcher

    file = _target(out, f"{_file_stem(model)}-{dataset.name}-{'-'.join(dataset.splits)}")
    loaded = load_matcher(model, compute)
    part, images = embed_images(loaded, dataset, reporter)
    texts = _embed_texts(loaded, part.captions)
    arrays = {"images": images, "texts": texts, "image_of_caption": part.image_of_caption}
    _write(file, arrays, loaded.info.similarity, origin_of(part))
    return DatasetVectors(file, loaded.name, dataset.name, len(images), len(texts), dim=int(images.shape[1]))


def sentence_vectors(model: str, text: Path, out: Path | None = None, compute: Compute = Compute()) -> SentenceVectors:
    """Write the embeddings of the sentences in a text file, one per line, in order; empty lines are skipped.

    Raises ConfigError for an unsupported file name, MissingData or BadData for the text file.
    """
    from xmodal_cli.inference.matchers import load_matcher

    file = _target(out, f"{_file_stem(model)}-{text.stem}")
    sentences = _read_sentences(text)
    loaded = load_matcher(model, compute)
    vectors = loaded.embed_texts(sentences)
    _write(file, {"texts": vectors}, loaded.info.similarity)
    return SentenceVectors(file, loaded.name, text, len(sentences), dim=int(vectors.shape[1]))


def _embed_texts(loaded: LoadedMatcher, captions: list[str]) -> np.ndarray:
    if not captions:
        return np.zeros((0, loaded.info.embed_dim), dtype=np.float32)
    return loaded.embed_texts(captions)


def _read_sentences(text: Path) -> list[str]:
    try:
        lines = text.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise MissingData(
            f"{text} cannot be read: {error.strerror}", "give a text file with one sentence per line"
        ) from error
    except UnicodeDecodeError as error:
        raise BadData(f"{text} is not UTF-8 text", "save it as UTF-8, with one sentence per line") from error
    sentences = [line.strip() for line in lines if line.strip()]
    if not sentences:
        raise BadData(f"{text} contains no sentences", "write one sentence per line")
    return sentences


def _target(out: Path | None, name: str) -> Path:
    """The file to write: ``out``, a file in the folder ``out``, or a file in the cache."""
    if out is None:
        return paths.cache_dir() / "vectors" / f"{name}.safetensors"
    if out.suffix in SUFFIXES:
        return out
    if out.is_dir() or not out.suffix:
        return out / f"{name}.safetensors"
    raise ConfigError(f"{out} has an unsupported extension", f"supported: {', '.join(SUFFIXES)}")


def _file_stem(model: str) -> str:
    """The name of a model as part of a file name."""
    if zero_shot.supports(model):
        name, _, file = model.partition("@")
        return "-".join([*name.split("/"), *([Path(file).stem] if file else [])])
    path = Path(model)
    return path.parent.name if path.name == "model.safetensors" else path.stem if path.suffix else path.name


def _write(file: Path, arrays: Mapping[str, np.ndarray], similarity: str, origin: VectorsOrigin | None = None) -> None:
    from safetensors.numpy import save_file

    with paths.atomic_path(file) as draft:
        if file.suffix == ".npz":
            with open(draft, "wb") as stream:
                more = {"similarity": np.array(similarity), **(origin.to_arrays() if origin else {})}
                np.savez(stream, **{**arrays, **more})  # type: ignore[arg-type]
        else:
            metadata = {"similarity": similarity, **(origin.to_strings() if origin else {})}
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, draft, metadata)

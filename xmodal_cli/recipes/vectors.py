"""Write the embeddings of a matcher to a file: of the images and captions of a dataset, or of sentences.

``xmodal eval`` reads the file: arrays ``images`` (n, dim), ``texts`` (m, dim) and ``image_of_caption`` (m,), and the
name of the similarity; dataset, split, image ids and a fingerprint, so that they are not taken for another split.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmodal_cli.data.sentences import read_sentences
from xmodal_cli.device import Compute
from xmodal_cli.evaluation.vectors_file import target_file, write_vectors
from xmodal_cli.evaluation.vectors_origin import origin_of
from xmodal_cli.inference import zero_shot
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import ImageTextDataset

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher


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

    compute.check()
    file = target_file(out, f"{_file_stem(model)}-{dataset.name}-{'-'.join(dataset.splits)}")
    loaded = load_matcher(model, compute)
    part, images = embed_images(loaded, dataset, reporter)
    texts = _embed_texts(loaded, part.captions)
    arrays = {"images": images, "texts": texts, "image_of_caption": part.image_of_caption}
    write_vectors(file, arrays, loaded.info.similarity, origin_of(part))
    return DatasetVectors(file, loaded.name, dataset.name, len(images), len(texts), dim=int(images.shape[1]))


def sentence_vectors(model: str, text: Path, out: Path | None = None, compute: Compute = Compute()) -> SentenceVectors:
    """Write the embeddings of the sentences in a text file, one per line, in order; empty lines are skipped.

    Raises ConfigError for an unsupported file name, MissingData or BadData for the text file.
    """
    from xmodal_cli.inference.matchers import load_matcher

    compute.check()
    file = target_file(out, f"{_file_stem(model)}-{text.stem}")
    sentences = read_sentences(text)
    loaded = load_matcher(model, compute)
    vectors = loaded.embed_texts(sentences)
    write_vectors(file, {"texts": vectors}, loaded.info.similarity)
    return SentenceVectors(file, loaded.name, text, len(sentences), dim=int(vectors.shape[1]))


def _embed_texts(loaded: LoadedMatcher, captions: list[str]) -> np.ndarray:
    if not captions:
        return np.zeros((0, loaded.info.embed_dim), dtype=np.float32)
    return loaded.embed_texts(captions)


def _file_stem(model: str) -> str:
    """The name of a model as part of a file name."""
    if zero_shot.supports(model):
        name, _, file = model.partition("@")
        return "-".join([*name.split("/"), *([Path(file).stem] if file else [])])
    path = Path(model)
    return path.parent.name if path.name == "model.safetensors" else path.stem if path.suffix else path.name

"""Trained taggers: loading them, and the tags of image features."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np

from xmodal_cli.captioning.tags import known_tags
from xmodal_cli.device import Compute
from xmodal_cli.inference.encoding import check_features, file_vectors, open_backbone, settings_for
from xmodal_cli.inference.image_inputs import InputVectors
from xmodal_cli.inference.models import LoadedModel, ModelInfo, describe_as
from xmodal_cli.inference.onnx_image_encoder import OnnxImageHead
from xmodal_cli.inference.weights import load_weights
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.types import Tagger

if TYPE_CHECKING:
    from torch import Tensor

    from xmodal_cli.features.mapped_rows import MappedRows
    from xmodal_cli.reporter import Reporter
    from xmodal_cli.types import ImageTextDataset

BATCH = 256  # images per batch


@dataclass(frozen=True)
class LoadedTagger(LoadedModel):
    """A tagger in evaluation mode, on the device of ``compute``, which is resolved.

    ``model`` is an nn.Module, or an ``OnnxImageHead`` if ``compute.runtime`` is ``onnx``.
    """

    model: Tagger | OnnxImageHead
    tags: tuple[str, ...]

    def probabilities(self, features: Tensor | np.ndarray) -> np.ndarray:
        """(images, ...) features -> (images, tags) float32."""
        if isinstance(self.model, OnnxImageHead):
            return self.model.embed_features(np.asarray(features))
        import torch

        return tag_probabilities(self.model, torch.as_tensor(features), self.compute)


def load_tagger(what: str | ModelInfo, compute: Compute = Compute()) -> LoadedTagger:
    """Load a tagger with its weights, by name or by the result of ``describe_model``.

    Raises MissingData, BadModel, UnknownName, DownloadError, ConfigError.
    """
    info = describe_as(
        "tagger", what, "`xmodal models list` shows the taggers; `xmodal train --model tagger` trains one"
    )
    from xmodal_cli.inference.towers import load_towers
    from xmodal_cli.models.assembly import build_tagger

    architecture = info.header.architecture
    model = build_tagger(architecture, load_towers(info.name, architecture))
    load_weights(model, info)
    compute = compute.resolve()
    return LoadedTagger(info, compute, cast(Tagger, model.eval().to(compute.device)), tags_of(info))


def tags_of(info: ModelInfo) -> tuple[str, ...]:
    """All tags that a tagger knows."""
    return tuple(str(tag) for tag in info.header.architecture["tags"])


def tag_probabilities(model: Tagger, features: Tensor | MappedRows, compute: Compute) -> np.ndarray:
    """(images, ...) features -> (images, tags) float32; ``compute`` is resolved."""
    import torch

    parts: list[np.ndarray] = []
    with torch.inference_mode(), compute.autocast():
        for start in range(0, len(features), BATCH):
            batch = features[start : start + BATCH]
            parts.append(model(batch.to(compute.device)).float().sigmoid().cpu().numpy())
    return np.concatenate(parts)


def best_tags(
    tags: tuple[str, ...], probabilities: np.ndarray, num: int, allowed: Collection[str] | None = None
) -> list[list[tuple[str, float]]]:
    """The ``num`` most probable tags of each image with their probabilities, best first.

    ``probabilities`` is (images, tags). With ``allowed``, other tags are skipped. Ties keep the order of ``tags``.
    """
    columns = [number for number, tag in enumerate(tags) if allowed is None or tag in allowed]
    chosen = probabilities[:, columns]
    order = np.argsort(-chosen, axis=1, kind="stable")[:, :num]
    return [[(tags[columns[n]], float(row[n])) for n in best] for row, best in zip(chosen, order, strict=True)]


def tag_words(loaded: LoadedTagger, probabilities: np.ndarray, tokenizer: Tokenizer, num: int) -> list[list[str]]:
    """The ``num`` best tags of each image, best first; those out of the vocabulary of ``tokenizer`` are skipped."""
    allowed = set(known_tags(tokenizer, loaded.tags))
    return [[tag for tag, _ in best] for best in best_tags(loaded.tags, probabilities, num, allowed)]


def image_probabilities(loaded: LoadedTagger) -> InputVectors:
    """A function from images to their probabilities, in order: (path, (tags,) float32 or Unreadable).

    Raises IncompatibleFeatures if the backbone that the tagger was trained with is unavailable.
    """
    return partial(
        file_vectors, open_backbone(loaded), lambda rows: loaded.probabilities(np.array(rows)), loaded.compute
    )


def dataset_probabilities(
    loaded: LoadedTagger, dataset: ImageTextDataset, reporter: Reporter
) -> tuple[ImageTextDataset, np.ndarray]:
    """The dataset without unreadable images, and (images, tags) float32 from cached or new features.

    Raises IncompatibleFeatures for a dataset with other precomputed features, and the errors of extraction.
    """
    from xmodal_cli.features.image_features import read_image_features

    images = read_image_features(dataset, settings_for(loaded.info), loaded.compute, reporter)
    check_features(loaded.info, dataset, images.meta, reporter)
    return images.dataset, np.concatenate([loaded.probabilities(batch) for batch in images.batches(BATCH)])

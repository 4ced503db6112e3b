"""Trained matchers: loading them, and embedding image features and captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from xmodal_cli import starter
from xmodal_cli.batch_size import BatchSize
from xmodal_cli.device import Compute
from xmodal_cli.inference import zero_shot
from xmodal_cli.inference.models import LoadedModel, ModelInfo, describe_as
from xmodal_cli.types import Matcher

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from xmodal_cli.features.mapped_rows import MappedRows
    from xmodal_cli.models.token_batches import GatherTokens
    from xmodal_cli.models.tokenizer import Tokenizer


TEXT_BATCH = 512  # sentences per batch
IMAGE_BATCH = 4096  # feature vectors per batch: images, or cells of all images


@dataclass(frozen=True)
class LoadedMatcher(LoadedModel):
    """A matcher in evaluation mode, on the device of ``compute``, which is resolved. ``model`` is an nn.Module."""

    model: Matcher
    tokenizer: Tokenizer

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        """(sentences, embed_dim) float32, in order."""
        from xmodal_cli.models.token_batches import token_ids

        return embed_tokens(self.model, *token_ids(sentences, self.tokenizer), self.compute)

    def embed_features(self, values: np.ndarray | torch.Tensor | MappedRows) -> np.ndarray:
        """(images, dim) or (images, cells, dim) features -> (images, embed_dim) float32."""
        return embed_features(self.model, values, self.compute)


def embed_tokens(model: Matcher, gather_tokens: GatherTokens, lengths: torch.Tensor, compute: Compute) -> np.ndarray:
    """Captions and their (captions,) int64 lengths -> (captions, embed_dim) float32, batched by length."""
    import numpy as np
    import torch

    vectors = np.zeros((len(lengths), model.embed_dim), dtype=np.float32)
    by_length = lengths.argsort(stable=True)

    def embed(start: int, end: int) -> tuple[torch.Tensor, np.ndarray]:
        rows = by_length[start:end]
        batch = gather_tokens(rows, int(lengths[rows].max())).to(compute.device)
        return rows, model.encode_text(batch, lengths[rows].to(compute.device)).float().cpu().numpy()

    with torch.inference_mode(), compute.autocast():
        for rows, part in BatchSize(TEXT_BATCH, "sentences").run(embed, len(lengths)):
            vectors[rows.numpy()] = part
    return vectors


def embed_features(model: Matcher, values: np.ndarray | torch.Tensor | MappedRows, compute: Compute) -> np.ndarray:
    """(images, dim) or (images, cells, dim) -> (images, embed_dim) float32."""
    import numpy as np
    import torch

    def embed(start: int, end: int) -> np.ndarray:
        part = values[start:end]
        # an array is copied, because it may be a memory map
        batch = part if isinstance(part, torch.Tensor) else torch.from_numpy(np.array(part))
        vectors: np.ndarray = model.encode_image(batch.to(compute.device)).float().cpu().numpy()
        return vectors

    size = BatchSize(IMAGE_BATCH // (values.shape[1] if values.ndim == 3 else 1), "images")
    with torch.inference_mode(), compute.autocast():
        parts = list(size.run(embed, len(values)))
    return np.concatenate([np.zeros((0, model.embed_dim), dtype=np.float32), *parts])


def load_matcher(what: str | ModelInfo, compute: Compute = Compute()) -> LoadedMatcher:
    """Load a matcher with its weights, by name or by the result of ``describe_model``.

    Raises MissingData, BadModel, UnknownName, DownloadError, ConfigError.
    """
    info = describe_as("matcher", what, "`xmodal models list` shows the matchers")
    model, tokenizer = zero_shot.build(info.name) if zero_shot.supports(info.name) else _load_from_file(info)
    compute = compute.resolve()
    return LoadedMatcher(info, compute, cast("Matcher", model.eval().to(compute.device)), tokenizer)


def _load_from_file(info: ModelInfo) -> tuple[nn.Module, Tokenizer]:
    from xmodal_cli.inference.towers import load_towers
    from xmodal_cli.inference.weights import build_network, load_weights, read_tokenizer
    from xmodal_cli.models.assembly import build_matcher

    starter.check(info.path)
    architecture = info.header.architecture
    towers = load_towers(info.name, architecture)
    model = build_network(info, lambda: build_matcher(architecture, towers), bool(towers))
    load_weights(model, info)
    return model, read_tokenizer(info)

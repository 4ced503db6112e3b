"""A matcher loaded from its file, ready to embed image features and captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xmodal_cli import starter
from xmodal_cli.errors import BadModel
from xmodal_cli.inference import zero_shot
from xmodal_cli.inference.models import ModelSummary, describe_model
from xmodal_cli.models.model_file import read_tensors
from xmodal_cli.types import FeatureMeta

if TYPE_CHECKING:
    import numpy as np
    import torch

    from xmodal_cli.models.token_batches import GatherTokens
    from xmodal_cli.models.tokenizer import Tokenizer


TEXT_BATCH = 512  # sentences encoded at once
IMAGE_BATCH = 4096  # vectors projected at once; of pictures that are many cells, as many as have that many cells


@dataclass(frozen=True)
class LoadedMatcher:
    """A matcher ready for use, on ``device``, computing in ``dtype``."""

    summary: ModelSummary
    model: Any  # an nn.Module that is a types.Matcher
    tokenizer: Tokenizer
    device: str
    dtype: torch.dtype

    @property
    def name(self) -> str:
        """The run's or the file's name."""
        return self.summary.name

    @property
    def fingerprint(self) -> str:
        """sha256 of the weights."""
        return self.summary.fingerprint

    @property
    def meta(self) -> FeatureMeta:
        """The image features it reads."""
        return self.summary.meta

    @property
    def similarity(self) -> str:
        """``cosine`` or ``order``."""
        return self.summary.similarity

    @property
    def embed_dim(self) -> int:
        """Length of its vectors."""
        return self.summary.embed_dim

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        """(sentences, embed_dim) float32, in the order given."""
        from xmodal_cli.models.token_batches import token_ids

        return embed_tokens(self.model, *token_ids(sentences, self.tokenizer), self.device, self.dtype)

    def embed_features(self, values: np.ndarray) -> np.ndarray:
        """(images, dim) or (images, cells, dim) features -> (images, embed_dim) float32."""
        return embed_features(self.model, values, self.device, self.dtype)


def embed_tokens(
    model: Any, gather_tokens: GatherTokens, lengths: torch.Tensor, device: str, dtype: torch.dtype
) -> np.ndarray:
    """Captions and their (captions,) int64 lengths -> (captions, embed_dim) float32; like lengths go together."""
    import numpy as np
    import torch

    from xmodal_cli.device import autocast

    vectors = np.zeros((len(lengths), model.embed_dim), dtype=np.float32)
    with torch.inference_mode(), autocast(device, dtype):
        for rows in torch.split(lengths.argsort(stable=True), TEXT_BATCH) if len(lengths) else ():
            batch = gather_tokens(rows, int(lengths[rows].max())).to(device)
            vectors[rows.numpy()] = model.encode_text(batch, lengths[rows].to(device)).float().cpu().numpy()
    return vectors


def embed_features(model: Any, values: np.ndarray | torch.Tensor, device: str, dtype: torch.dtype) -> np.ndarray:
    """(images, dim) or (images, cells, dim) -> (images, embed_dim) float32."""
    import numpy as np
    import torch

    from xmodal_cli.device import autocast

    parts = [np.zeros((0, model.embed_dim), dtype=np.float32)]
    with torch.inference_mode(), autocast(device, dtype):
        size = max(1, IMAGE_BATCH // (values.shape[1] if values.ndim == 3 else 1))
        for start in range(0, len(values), size):
            part = values[start : start + size]
            batch = part if isinstance(part, torch.Tensor) else torch.from_numpy(np.array(part))  # no memory map
            parts.append(model.encode_image(batch.to(device)).float().cpu().numpy())
    return np.concatenate(parts)


def load_matcher(what: str, device: str = "auto", precision: str = "auto") -> LoadedMatcher:
    """A matcher with its weights, in evaluation mode. Raises MissingData, BadModel, UnknownName, DownloadError."""
    from xmodal_cli.device import pick_device, pick_dtype

    summary = describe_model(what)
    if summary.kind != "matcher":
        raise BadModel(f"{what} is a {summary.kind}, not a matcher", "`xmodal models list` shows the matchers")
    model, tokenizer = zero_shot.build(summary.name) if zero_shot.supports(what) else _from_file(summary)
    place = pick_device(device)
    return LoadedMatcher(summary, model.eval().to(place), tokenizer, place, pick_dtype(precision, place))


def _from_file(summary: ModelSummary) -> tuple[Any, Tokenizer]:
    from xmodal_cli.inference.towers import load_towers
    from xmodal_cli.models.assembly import build_matcher
    from xmodal_cli.models.tokenizer import Tokenizer
    from xmodal_cli.models.towers import load_trainable_state_dict

    starter.check(summary.path)
    architecture = summary.header.architecture
    model = build_matcher(architecture, load_towers(summary.name, architecture))
    try:
        load_trainable_state_dict(model, read_tensors(summary.path))
    except RuntimeError as error:
        raise BadModel(f"{summary.path} does not hold the weights its header promises", str(error)[:200]) from error
    return model, Tokenizer.from_json(summary.header.tokenizer)

"""Pretrained towers of a matcher: built by name, checked against the model file; frozen text towers are run once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xmodal_cli import paths
from xmodal_cli.backbones.image_backbones import build_network, build_upper
from xmodal_cli.backbones.text_backbones import build_text_backbone
from xmodal_cli.config import Config, FeaturesConfig
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.models.flat_tokens import FlatTokens
from xmodal_cli.models.token_batches import GatherTokens, ragged
from xmodal_cli.models.token_cache import cached_tokens
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import TextBackbone

BATCH = 256  # captions per batch


@dataclass(frozen=True)
class TextSide:
    """The pretrained sentence encoder in front of a text encoder, with its frozen and trained parts."""

    backbone: TextBackbone
    tuned: bool  # whether any layer is trained
    layers: int  # number of layers trained on cached states; 0 for none or all

    @property
    def cached(self) -> bool:
        """Whether ``backbone.network`` is frozen, so that its states are computed once."""
        return not self.tuned or bool(self.layers)

    def stack(self) -> list[tuple[nn.Module, bool]]:
        """The networks, from the tokens up, and whether each is trained."""
        lower = (self.backbone.network, not self.cached)
        return [lower] if self.backbone.upper is None else [lower, (self.backbone.upper, True)]

    def facts(self) -> dict[str, Any]:
        """The entry in the header of a model file."""
        return {**asdict(self.backbone.meta), "tuned": self.tuned, "layers": self.layers}


def text_side(config: Config) -> TextSide | None:
    """The sentence encoder in the settings, if any. Raises UnknownName, ConfigError, MissingData, DownloadError."""
    tuned = bool(config.optimizer.text_tower_lr_scale)
    if config.kind == "captioner":
        return None
    if not config.text.backbone:
        if tuned:
            hint = "set one, for example --set text.backbone=minilm"
            raise ConfigError(
                "optimizer.text_tower_lr_scale needs a sentence encoder, and text.backbone is empty", hint
            )
        return None
    layers = config.text.tuned_layers if tuned else 0
    name = config.features.backbone if config.text.backbone == "same" else config.text.backbone
    return TextSide(build_text_backbone(name, layers), tuned, layers)


@dataclass(frozen=True)
class ImageSide:
    """The trained part of an image backbone: its last ``blocks`` blocks on a frozen trunk, or all of it if 0."""

    network: nn.Module
    backbone: str
    fingerprint: str
    kind: str  # of its output features
    dim: int
    blocks: int

    def stack(self) -> list[tuple[nn.Module, bool]]:
        """The network, and that it is trained."""
        return [(self.network, True)]

    def facts(self) -> dict[str, Any]:
        """The entry in the header of a model file."""
        return {name: value for name, value in vars(self).items() if name != "network"}


def image_side(config: Config) -> ImageSide | None:
    """The part of the image backbone that is trained, if any. Raises like building a backbone."""
    if not config.optimizer.image_tower_lr_scale:
        return None
    return _build_image_side(config.features.backbone, config.features.kind, config.features.tuned_blocks)


def _build_image_side(backbone: str, kind: str, blocks: int) -> ImageSide:
    network, meta = build_upper(backbone, kind, blocks) if blocks else build_network(backbone, kind)
    return ImageSide(network, backbone, meta.fingerprint, kind, meta.dim, blocks)


def input_features(config: Config) -> FeaturesConfig:
    """The input of the model: features, features of the trunk below the trained blocks, or pixels."""
    if not config.optimizer.image_tower_lr_scale:
        return config.features
    blocks = config.features.tuned_blocks
    return replace(config.features, kind=f"trunk-{blocks}" if blocks else "pixels")


def load_towers(name: str, architecture: Mapping[str, Any]) -> dict[str, list[tuple[nn.Module, bool]]]:
    """Build the towers of the model ``name``, by side. Raises IncompatibleFeatures for other weights."""
    sides: dict[str, TextSide | ImageSide] = {}
    towers = architecture.get("towers", {})
    if "text" in towers:
        facts = towers["text"]
        backbone = build_text_backbone(facts["backbone"], facts["layers"])
        sides["text"] = TextSide(backbone, facts["tuned"], facts["layers"])
    if "image" in towers:
        facts = towers["image"]
        sides["image"] = _build_image_side(facts["backbone"], facts["kind"], facts["blocks"])
    for key, side in sides.items():
        if side.facts()["fingerprint"] != towers[key]["fingerprint"]:
            raise IncompatibleFeatures(
                f"{towers[key]['backbone']} has other weights here than when {name} was trained",
                f"use the weights with sha256 {towers[key]['fingerprint'][:16]}..., or train the model again",
            )
    return {key: side.stack() for key, side in sides.items()}


def text_states(
    backbone: TextBackbone, captions: Sequence[str], compute: Compute, reporter: Reporter
) -> tuple[GatherTokens, Tensor]:
    """The states of captions from a frozen encoder: a function that gathers fp16 rows, and (captions,) int64 lengths.

    The states are a memory map in the cache, computed once per captions, encoder and precision.
    ``compute`` is resolved.
    """
    tokenizer = Tokenizer.from_json(backbone.tokenizer)
    tokens = cached_tokens(captions, tokenizer, tokenizer.encode, reporter)
    lengths = tokens.lengths
    num_states = torch.ones_like(lengths) if backbone.meta.kind == "sentence" else lengths  # per caption
    file = _cache_file(backbone, captions, compute.dtype)
    if not file.is_file():
        with paths.atomic_path(file) as draft, open(draft, "wb") as stream:
            header = {"descr": "<f2", "fortran_order": False, "shape": (int(num_states.sum()), backbone.meta.dim)}
            np.lib.format.write_array_header_1_0(stream, header)
            for states in _encode(backbone.network, tokens, compute, reporter):
                stream.write(states.tobytes())
    mapped = np.load(file, mmap_mode="c", allow_pickle=False)
    return ragged(torch.from_numpy(mapped), num_states), num_states


def _encode(network: nn.Module, tokens: FlatTokens, compute: Compute, reporter: Reporter) -> Iterator[np.ndarray]:
    """Yield (tokens, dim) fp16 per caption; captions of similar length, among a few thousand, form a batch."""
    device, lengths = compute.device, tokens.lengths
    network.eval().to(device)
    with torch.inference_mode(), compute.autocast(), reporter.task("captions", len(lengths), "captions") as task:
        for pool in torch.split(torch.arange(len(lengths)), 16 * BATCH):
            states_of: dict[int, np.ndarray] = {}
            for rows in torch.split(pool[lengths[pool].argsort(stable=True)], BATCH):
                longest = int(lengths[rows].max())
                states = network(tokens.gather(rows, longest).to(device), lengths[rows].to(device)).half().cpu().numpy()
                states_of |= {int(row): states[n, : int(lengths[row])] for n, row in enumerate(rows)}
                task.advance(len(rows))
            yield from (states_of[int(row)] for row in pool)


def _cache_file(backbone: TextBackbone, captions: Sequence[str], dtype: torch.dtype) -> Path:
    layers = 0 if backbone.upper is None else len(list(backbone.upper.parameters()))
    digest = hashlib.sha256(repr((backbone.meta, backbone.tokenizer, str(dtype), layers)).encode())
    for caption in captions:
        digest.update(caption.encode() + b"\n")
    return paths.cache_dir() / "text" / f"{Path(backbone.meta.backbone).name}-{digest.hexdigest()[:16]}.npy"

"""Pretrained networks inside a matcher: found by name, checked against the model's record, run ahead where frozen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from xmodal_cli import paths
from xmodal_cli.backbones.image_backbones import build_network, build_upper
from xmodal_cli.backbones.text_backbones import build_text_backbone
from xmodal_cli.config import Config, FeaturesConfig
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.models.token_batches import GatherTokens, ragged
from xmodal_cli.models.tokenizer import Tokenizer, pad
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import TextBackbone

if TYPE_CHECKING:
    from collections.abc import Iterator


BATCH = 256  # captions through the encoder at once


@dataclass(frozen=True)
class TextSide:
    """The sentence encoder before a model's own: what stays as it is, and what is trained."""

    backbone: TextBackbone
    tuned: bool  # whether any of it is
    layers: int  # how many layers are trained apart, 0 for none or all

    @property
    def cached(self) -> bool:
        """Whether captions go through ``backbone.network`` once, ahead of training."""
        return not self.tuned or bool(self.layers)

    def stack(self) -> list[tuple[nn.Module, bool]]:
        """The networks from the tokens on, and whether each is tuned."""
        lower = (self.backbone.network, not self.cached)
        return [lower] if self.backbone.upper is None else [lower, (self.backbone.upper, True)]

    def facts(self) -> dict[str, Any]:
        """What a model's file says of it."""
        return {**asdict(self.backbone.meta), "tuned": self.tuned, "layers": self.layers}


def text_side(config: Config) -> TextSide | None:
    """The encoder that the settings name, if any. Raises UnknownName, ConfigError, MissingData, DownloadError."""
    tuned = bool(config.optimizer.text_tower_lr_scale)
    if config.kind == "captioner":
        return None
    if not config.text.backbone:
        if tuned:
            hint = "name one, for example --set text.backbone=minilm"
            raise ConfigError("optimizer.text_tower_lr_scale trains a sentence encoder, and there is none", hint)
        return None
    layers = config.text.tuned_layers if tuned else 0
    name = config.features.backbone if config.text.backbone == "same" else config.text.backbone
    return TextSide(build_text_backbone(name, layers), tuned, layers)


@dataclass(frozen=True)
class ImageSide:
    """The part of an image backbone that is trained: ``blocks`` of it above a trunk, or all of it at 0."""

    network: nn.Module
    backbone: str
    fingerprint: str
    kind: str  # of what it gives
    dim: int
    blocks: int

    def stack(self) -> list[tuple[nn.Module, bool]]:
        """The one network, which is tuned."""
        return [(self.network, True)]

    def facts(self) -> dict[str, Any]:
        """What a model's file says of it."""
        return {name: value for name, value in vars(self).items() if name != "network"}


def image_side(config: Config) -> ImageSide | None:
    """The part of the image backbone that the settings train, if any. Raises what building a backbone raises."""
    if not config.optimizer.image_tower_lr_scale:
        return None
    return _image_side(config.features.backbone, config.features.kind, config.features.tuned_blocks)


def _image_side(backbone: str, kind: str, blocks: int) -> ImageSide:
    network, meta = build_upper(backbone, kind, blocks) if blocks else build_network(backbone, kind)
    return ImageSide(network, backbone, meta.fingerprint, kind, meta.dim, blocks)


def input_features(config: Config) -> FeaturesConfig:
    """What the model is given: features, those of the trunk below the blocks that are trained, or pixels."""
    if not config.optimizer.image_tower_lr_scale:
        return config.features
    blocks = config.features.tuned_blocks
    return replace(config.features, kind=f"trunk-{blocks}" if blocks else "pixels")


def load_towers(name: str, architecture: Mapping[str, Any]) -> dict[str, list[tuple[nn.Module, bool]]]:
    """The networks that the model ``name`` has inside, by side. Raises IncompatibleFeatures for other weights."""
    sides: dict[str, TextSide | ImageSide] = {}
    found = architecture.get("towers", {})
    if "text" in found:
        facts = found["text"]
        backbone = build_text_backbone(facts["backbone"], facts["layers"])
        sides["text"] = TextSide(backbone, facts["tuned"], facts["layers"])
    if "image" in found:
        facts = found["image"]
        sides["image"] = _image_side(facts["backbone"], facts["kind"], facts["blocks"])
    for key, side in sides.items():
        if side.facts()["fingerprint"] != found[key]["fingerprint"]:
            raise IncompatibleFeatures(
                f"{found[key]['backbone']} has other weights here than when {name} was trained",
                f"bring the weights with sha256 {found[key]['fingerprint'][:16]}..., or train the model again",
            )
    return {key: side.stack() for key, side in sides.items()}


def text_states(
    backbone: TextBackbone, captions: Sequence[str], compute: Compute, reporter: Reporter
) -> tuple[GatherTokens, Tensor]:
    """What a frozen encoder makes of captions: rows of fp16 states, and (captions,) lengths.

    The states are a memory map in the cache, made once for the same captions, encoder and precision.
    ``compute`` is resolved.
    """
    tokens, lengths = (torch.from_numpy(a) for a in pad(Tokenizer.from_json(backbone.tokenizer).encode(captions)))
    held = torch.ones_like(lengths) if backbone.meta.kind == "sentence" else lengths  # states of each caption
    file = _cache_file(backbone, captions, compute.dtype)
    if not file.is_file():
        with paths.atomic_path(file) as draft, open(draft, "wb") as stream:
            header = {"descr": "<f2", "fortran_order": False, "shape": (int(held.sum()), backbone.meta.dim)}
            np.lib.format.write_array_header_1_0(stream, header)
            for states in _encode(backbone.network, tokens, lengths, compute, reporter):
                stream.write(states.tobytes())
    mapped = np.load(file, mmap_mode="c")
    return ragged(torch.from_numpy(mapped), held), held


def _encode(
    network: nn.Module, tokens: Tensor, lengths: Tensor, compute: Compute, reporter: Reporter
) -> Iterator[np.ndarray]:
    """(tokens of one caption, dim) fp16 after another; captions of like length among a few thousand go together."""
    device = compute.device
    network.eval().to(device)
    with torch.inference_mode(), compute.autocast(), reporter.task("captions", len(tokens), "captions") as bar:
        for pool in torch.split(torch.arange(len(tokens)), 16 * BATCH):
            found: dict[int, np.ndarray] = {}
            for rows in torch.split(pool[lengths[pool].argsort(stable=True)], BATCH):
                longest = int(lengths[rows].max())
                states = network(tokens[rows, :longest].to(device), lengths[rows].to(device)).half().cpu().numpy()
                found |= {int(row): states[n, : int(lengths[row])] for n, row in enumerate(rows)}
                bar.advance(len(rows))
            yield from (found[int(row)] for row in pool)


def _cache_file(backbone: TextBackbone, captions: Sequence[str], dtype: torch.dtype) -> Path:
    layers = 0 if backbone.upper is None else len(list(backbone.upper.parameters()))
    digest = hashlib.sha256(repr((backbone.meta, backbone.tokenizer, str(dtype), layers)).encode())
    for caption in captions:
        digest.update(caption.encode() + b"\n")
    return paths.cache_dir() / "text" / f"{Path(backbone.meta.backbone).name}-{digest.hexdigest()[:16]}.npy"

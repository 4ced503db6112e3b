"""Builds matchers, captioners and taggers from their parts, for training and for loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from xmodal_cli import catalog
from xmodal_cli.config import ModelConfig
from xmodal_cli.models.towers import CaptionerOnTower, EncoderOnTower

PARTS = ("image_encoder", "text_encoder", "similarity")
DEFAULT_SIZES = {"image_dim": 0, "image_kind": "global", "vocab_size": 0, "text_dim": 0}


# side -> the pretrained networks in front of its encoder, input first, and whether each is fine-tuned
Towers = Mapping[str, Sequence[tuple[nn.Module, bool]]]


@dataclass(frozen=True)
class Sizes:
    """The sizes that depend on the data. ``text_dim`` is 0 if word vectors are trained from scratch."""

    image_dim: int
    image_kind: str
    vocab_size: int
    text_dim: int = 0


def describe(model: ModelConfig, sizes: Sizes, towers: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The architecture as plain tables: the ``[model]`` section, the sizes, and the pretrained ``towers`` in it.

    ``towers``: side (``image``, ``text``) -> the record from which ``inference.towers`` builds them again.
    """
    records = {side: dict(record) for side, record in (towers or {}).items()}
    return {**asdict(model), **asdict(sizes), "towers": records}


def build_matcher(architecture: Mapping[str, Any], towers: Towers | None = None) -> nn.Module:
    """A matcher with new weights. ``architecture`` is the result of ``describe``; ``towers`` are the networks it names.

    Raises UnknownName, ConfigError.
    """
    sizes = {key: architecture.get(key, default) for key, default in DEFAULT_SIZES.items()}
    sizes["embed_dim"] = architecture["embed_dim"]
    parts = {kind: _build_part(kind, architecture[kind], sizes) for kind in PARTS}
    for side, stack in (towers or {}).items():
        for network, tuned in reversed(stack):
            parts[f"{side}_encoder"] = EncoderOnTower(network, parts[f"{side}_encoder"], tuned)
    args = architecture.get("args", {})
    model: nn.Module = catalog.build("matcher", architecture["name"], args, **parts, embed_dim=sizes["embed_dim"])
    return model


def describe_captioner(
    model: ModelConfig, sizes: Sizes, towers: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """``describe`` for a captioner or a tagger, which have no separate parts."""
    architecture = describe(model, sizes, towers)
    return {key: value for key, value in architecture.items() if key not in (*PARTS, "text_dim")}


def build_captioner(architecture: Mapping[str, Any], towers: Towers | None = None) -> nn.Module:
    """A captioner with new weights, from the result of ``describe_captioner``. Raises UnknownName, ConfigError."""
    sizes = {key: architecture[key] for key in ("image_dim", "image_kind", "vocab_size", "embed_dim")}
    model: nn.Module = catalog.build("captioner", architecture["name"], architecture["args"], **sizes)
    for network, _ in reversed((towers or {}).get("image", ())):
        model = CaptionerOnTower(network, model)
    return model


def build_tagger(architecture: Mapping[str, Any], towers: Towers | None = None) -> nn.Module:
    """A tagger with new weights; ``vocab_size`` is the number of tags. Raises UnknownName, ConfigError."""
    sizes = {key: architecture[key] for key in ("image_dim", "image_kind", "vocab_size", "embed_dim")}
    model: nn.Module = catalog.build("tagger", architecture["name"], architecture["args"], **sizes)
    for network, tuned in reversed((towers or {}).get("image", ())):
        model = EncoderOnTower(network, model, tuned)
    return model


def _build_part(kind: str, component: Mapping[str, Any], sizes: Mapping[str, Any]) -> Any:
    accepted = {key: sizes[key] for key in catalog.GIVEN.get(kind, ())}
    return catalog.build(kind, component["name"], component["args"], **accepted)

"""Puts a matcher together from its parts, the same way for training and for loading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from xmodal_cli import catalog
from xmodal_cli.config import ModelConfig


def build_matcher(architecture: Mapping[str, Any]) -> nn.Module:
    """A fresh matcher. ``architecture`` is what ``describe`` returns. Raises UnknownName, ConfigError."""
    sizes = {key: architecture[key] for key in ("image_dim", "vocab_size", "embed_dim")}
    parts = {kind: _part(kind, architecture[kind], sizes) for kind in ("image_encoder", "text_encoder", "similarity")}
    model: nn.Module = catalog.build("model", architecture["name"], {}, **parts, embed_dim=sizes["embed_dim"])
    return model


def describe(model: ModelConfig, image_dim: int, vocab_size: int) -> dict[str, Any]:
    """The architecture as plain tables: the ``[model]`` section and the two sizes that the data decides."""
    return {**asdict(model), "image_dim": image_dim, "vocab_size": vocab_size}


def _part(kind: str, component: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    return catalog.build(kind, component["name"], component["args"], **sizes)

"""Builds sentence encoders by name. No heavy imports."""

from __future__ import annotations

from types import ModuleType

from xmodal_cli import catalog
from xmodal_cli.errors import UnknownName
from xmodal_cli.types import TextBackbone


def known() -> list[str]:
    """All names that ``build_text_backbone`` accepts; parts in capitals are placeholders."""
    return [name for family in _families() for name in family.known()]


def build_text_backbone(name: str, tuned_layers: int = 0) -> TextBackbone:
    """The encoder called ``name``, on the CPU in float32, with its last ``tuned_layers`` as a separate network.

    Raises UnknownName, ConfigError, MissingData, BadData, DownloadError.
    """
    for family in _families():
        if family.supports(name):
            backbone: TextBackbone = family.build(name, tuned_layers)
            return backbone
    raise UnknownName.of("sentence encoder", name, known())


def _families() -> list[ModuleType]:
    return [catalog.load("text_backbone", name) for name in catalog.names("text_backbone")]

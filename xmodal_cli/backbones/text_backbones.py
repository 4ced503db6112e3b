"""From a sentence encoder's name to the network: the one door to this folder. Imports nothing heavy."""

from __future__ import annotations

from types import ModuleType

from xmodal_cli import catalog
from xmodal_cli.errors import UnknownName
from xmodal_cli.types import TextBackbone


def known() -> list[str]:
    """Every name that ``build_text_backbone`` answers to; capitals stand for what the user fills in."""
    return [name for family in _families() for name in family.known()]


def build_text_backbone(name: str, tuned_layers: int = 0) -> TextBackbone:
    """The encoder called ``name``, on the CPU in float32, its last ``tuned_layers`` apart.

    Raises UnknownName, ConfigError, MissingData, BadData, DownloadError.
    """
    for family in _families():
        if family.supports(name):
            found: TextBackbone = family.build(name, tuned_layers)
            return found
    raise UnknownName.of("sentence encoder", name, known())


def _families() -> list[ModuleType]:
    return [catalog.load("text_backbone", name) for name in catalog.names("text_backbone")]

"""From a language model's name to its weights: the one door to this folder. Imports nothing heavy."""

from __future__ import annotations

from types import ModuleType

from xmodal_cli import catalog
from xmodal_cli.errors import UnknownName
from xmodal_cli.types import LanguageModel


def known() -> list[str]:
    """Every name that ``build_language_model`` answers to; capitals stand for what the user fills in."""
    return [name for family in _families() for name in family.known()]


def build_language_model(name: str) -> LanguageModel:
    """The language model called ``name``, in float32. Raises UnknownName, MissingData, BadData, DownloadError."""
    for family in _families():
        if family.supports(name):
            found: LanguageModel = family.build(name)
            return found
    raise UnknownName.of("language model", name, known())


def _families() -> list[ModuleType]:
    return [catalog.load("language_model", name) for name in catalog.names("language_model")]

"""Builds language models by name. No heavy imports."""

from __future__ import annotations

from types import ModuleType

from xmodal_cli import catalog
from xmodal_cli.errors import UnknownName
from xmodal_cli.types import LanguageModel


def known() -> list[str]:
    """All names that ``build_language_model`` accepts; parts in capitals are placeholders."""
    return [name for family in _families() for name in family.known()]


def build_language_model(name: str) -> LanguageModel:
    """The language model called ``name``, in float32. Raises UnknownName, MissingData, BadData, DownloadError."""
    for family in _families():
        if family.supports(name):
            language_model: LanguageModel = family.build(name)
            return language_model
    raise UnknownName.of("language model", name, known())


def _families() -> list[ModuleType]:
    return [catalog.load("language_model", name) for name in catalog.names("language_model")]

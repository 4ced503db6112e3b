"""From a language model's name to its weights: the one door to this folder. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from xmodal_cli import catalog
from xmodal_cli.errors import UnknownName

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LanguageModel:
    """What a language model was when it was fetched; ``tensors`` are named as in ``models/captioners/_gpt2.py``.

    ``sizes`` holds ``vocab_size``, ``embed_dim`` and ``num_layers``. ``tokenizer`` is the JSON of its ``tokenizers``
    tokenizer, ``fingerprint`` the sha256 of its weights file.
    """

    name: str
    tensors: dict[str, Tensor]
    sizes: dict[str, int]
    tokenizer: str
    fingerprint: str


def known() -> list[str]:
    """Every name that ``build_language_model`` answers to; capitals stand for what the user fills in."""
    return [name for family in _families() for name in family.known()]


def build_language_model(name: str) -> LanguageModel:
    """The language model called ``name``, in float32. Raises UnknownName, MissingData, BadData, DownloadError."""
    for family in _families():
        if family.claims(name):
            found: LanguageModel = family.build(name)
            return found
    raise UnknownName.of("language model", name, known())


def _families() -> list[ModuleType]:
    return [catalog.load("language_model", name) for name in catalog.names("language_model")]

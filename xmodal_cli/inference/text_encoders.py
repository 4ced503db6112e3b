"""Who turns a query's sentences into vectors: the exported text encoder where there is one, else torch.

Exports are kept in the cache by the model's fingerprint. Neither torch nor the code that exports is imported until it
has to be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xmodal_cli import paths
from xmodal_cli.errors import BadData, MissingData, StorageError, Unavailable, XmodalError
from xmodal_cli.inference.exported_text import ExportedText, source_note
from xmodal_cli.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import ModelInfo


class SentenceEncoder(Protocol):
    """What a search needs of a matcher to read sentences."""

    def unknown_words(self, sentence: str) -> list[str]: ...
    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray: ...


def folder_of(fingerprint: str) -> Path:
    """Where the export of the model with this fingerprint is kept."""
    return paths.cache_dir() / "text-encoders" / fingerprint[:16]


def find(fingerprint: str) -> ExportedText | None:
    """The export, whole and ready; or the note that says why there is none; None where neither is there."""
    try:
        return ExportedText(folder_of(fingerprint), fingerprint)
    except (MissingData, BadData):
        return None


def ensure(info: ModelInfo, reporter: Reporter, loaded: LoadedMatcher | None = None) -> None:
    """Export the text encoder of a matcher unless that was done, or refused, before.

    ``loaded`` is that model where it is loaded already and not needed any more. An index is whole without an export:
    whatever is in the way is told by the search that misses it.
    """
    if find(info.fingerprint) is None:
        with contextlib.suppress(XmodalError):
            export(info, reporter, loaded)


def export(info: ModelInfo, reporter: Reporter, loaded: LoadedMatcher | None = None) -> ExportedText | None:
    """Export the text encoder of a matcher; None, and a warning, where that failed.

    Raises what loading the model raises.
    """
    from xmodal_cli.device import Compute
    from xmodal_cli.inference import matchers
    from xmodal_cli.inference.text_export import export_text

    loaded = loaded or matchers.load_matcher(info, Compute("cpu", "fp32"))
    folder = folder_of(info.fingerprint)
    try:
        export_text(loaded, source_note(info.source, info.path), folder)
        return ExportedText(folder, info.fingerprint)
    except (Unavailable, MissingData, BadData, StorageError) as error:
        reporter.warn(f"{error.message}; searching {info.name} loads torch, which takes seconds")
    return None


class TorchEncoder:
    """A loaded matcher as a SentenceEncoder."""

    def __init__(self, loaded: LoadedMatcher) -> None:
        self._loaded = loaded

    def unknown_words(self, sentence: str) -> list[str]:
        return self._loaded.tokenizer.unknown_words(sentence)

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        return self._loaded.embed_texts(sentences)

"""The text encoder of a query: the exported one if it exists, else torch.

Exports are cached by the fingerprint of the model. torch and the export code are imported only when needed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xmodal_cli import paths
from xmodal_cli.errors import BadData, MissingData, StorageError, Unavailable, XmodalError
from xmodal_cli.inference.onnx_folder import source_record
from xmodal_cli.inference.onnx_text_encoder import OnnxTextEncoder
from xmodal_cli.inference.runtime import require_torch
from xmodal_cli.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import ModelInfo


class SentenceEncoder(Protocol):
    """The part of a matcher that encodes queries."""

    def unknown_words(self, sentence: str) -> list[str]: ...
    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray: ...


def folder_of(fingerprint: str) -> Path:
    """The cache folder of the export of the model with this fingerprint."""
    return paths.cache_dir() / "text-encoders" / fingerprint[:16]


def find(fingerprint: str) -> OnnxTextEncoder | None:
    """The export of a model, or a record of why it cannot be exported; None if there is neither."""
    try:
        return OnnxTextEncoder(folder_of(fingerprint), fingerprint)
    except (MissingData, BadData):
        return None


def ensure(info: ModelInfo, reporter: Reporter, loaded: LoadedMatcher | None = None) -> None:
    """Export the text encoder of a matcher unless it was exported, or failed, before.

    ``loaded`` is the model if it is loaded and no longer needed. Errors are ignored: an index is complete without an
    export, and a search reports the error.
    """
    if find(info.fingerprint) is None:
        with contextlib.suppress(XmodalError):
            export(info, reporter, loaded)


def export(info: ModelInfo, reporter: Reporter, loaded: LoadedMatcher | None = None) -> OnnxTextEncoder | None:
    """Export the text encoder of a matcher. Logs a warning and returns None if that fails.

    Raises like ``load_matcher``.
    """
    from xmodal_cli.device import Compute
    from xmodal_cli.inference import matchers
    from xmodal_cli.inference.bundled_graphs import export_bundled_text
    from xmodal_cli.inference.onnx_writing import ExportRecord

    folder, source = folder_of(info.fingerprint), source_record(info.source, info.path)
    record = ExportRecord("text encoder", info.name, info.fingerprint, source)
    try:
        if not export_bundled_text(info, record, folder):
            require_torch(f"exporting the text encoder of {info.name}")
            from xmodal_cli.inference.onnx_export import export_text

            export_text(loaded or matchers.load_matcher(info, Compute("cpu", "fp32")), source, folder)
        return OnnxTextEncoder(folder, info.fingerprint)
    except (Unavailable, MissingData, BadData, StorageError) as error:
        reporter.warn(f"{error.message}; searching {info.name} loads torch, which takes seconds")
    return None


class TorchEncoder:
    """The text encoder of a loaded matcher."""

    def __init__(self, loaded: LoadedMatcher) -> None:
        self._loaded = loaded

    def unknown_words(self, sentence: str) -> list[str]:
        return self._loaded.tokenizer.unknown_words(sentence)

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        return self._loaded.embed_texts(sentences)

"""An exported text encoder: encodes sentences with onnxruntime, without torch and without the model file.

The folder contains ``export.json`` (metadata and checksums), the graph for one sentence without padding
(``encoder.onnx``, with memory-mapped large weights in ``encoder.bin``), the word embeddings (``words.npy``), of which
only the rows of the sentence are read, and the tokenizer. Written by ``onnx_export``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.file_errors import reading
from xmodal_cli.inference.onnx_folder import HINT, OnnxFolder, open_session, running

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.models.tokenizer import Tokenizer


MAX_SIZE = 1 << 22  # of a vector or a context
GRAPH, WEIGHTS, WORDS, TOKENIZER = "encoder.onnx", "encoder.bin", "words.npy", "tokenizer.json"
TOKENS_IN, WORDS_IN, VECTOR_OUT = "tokens", "words", "vector"  # (1, length) int64, (1, length, dim), (1, embed_dim)


class OnnxTextEncoder:
    """The text encoder in the folder ``path``, loaded on first use.

    Raises MissingData if there is none for ``fingerprint``, BadData if a file has changed. It cannot be used if
    ``folder.export_error`` has the reason of a failed export.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.folder = OnnxFolder(path, fingerprint, _check_metadata)
        self._path, self._metadata = path, self.folder.metadata
        self._num_runs, self._open_session = 0, None

    def unknown_words(self, sentence: str) -> list[str]:
        """The out-of-vocabulary words of a sentence."""
        return self._tokenizer.unknown_words(sentence)

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        """(sentences, embed_dim) float32, equal to ``embed_texts`` of the matcher. Raises BadData."""
        import numpy as np

        vectors = [self._embed(ids) for ids in self._tokenizer.encode(sentences)]
        return np.concatenate(vectors) if vectors else np.zeros((0, self._metadata["embed_dim"]), np.float32)

    def _embed(self, ids: list[int]) -> np.ndarray:
        import numpy as np

        if length := self._metadata["length"]:  # for a tower that needs a full context
            ids = (ids + [self._metadata["pad_id"]] * length)[:length]
        inputs = {TOKENS_IN: np.array([ids], np.int64)}
        if self._words is not None:
            with reading(self._path / WORDS, HINT):
                inputs[WORDS_IN] = np.asarray(self._words[ids])[None]
        with running(self._path / GRAPH):
            vector: np.ndarray = self._session.run(
                [VECTOR_OUT], {name: inputs[name] for name in self._metadata["inputs"]}
            )[0]
            if vector.shape != (1, self._metadata["embed_dim"]):
                raise ValueError(f"it returns an array of shape {vector.shape}")
        return vector

    @property
    def _session(self) -> Any:
        """Packed weights load slower and run faster, so they are used from the second run on."""
        self._num_runs += 1
        if self._num_runs == 1:
            self._open_session = open_session(self._path / GRAPH, packed=False)
        elif self._num_runs == 2:
            self._open_session = open_session(self._path / GRAPH, packed=True)
        return self._open_session

    @cached_property
    def _words(self) -> np.ndarray | None:
        import numpy as np

        if WORDS_IN not in self._metadata["inputs"]:
            return None
        with reading(self._path / WORDS, HINT):
            table: np.ndarray = np.load(self._path / WORDS, mmap_mode="r", allow_pickle=False)
            return table

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from xmodal_cli.models.tokenizer import Tokenizer

        with reading(self._path / TOKENIZER, HINT):
            text = (self._path / TOKENIZER).read_text(encoding="utf-8")
        return Tokenizer.from_json(text)


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Raise an exception, of any type, for metadata that ``onnx_export`` did not write."""
    if not set(metadata["inputs"]) <= {TOKENS_IN, WORDS_IN} or not {GRAPH, TOKENIZER} <= metadata["files"].keys():
        raise ValueError("its inputs or files are incomplete")
    if not all(type(metadata[name]) is int and 0 <= metadata[name] <= MAX_SIZE for name in ("embed_dim", "length")):
        raise ValueError("its sizes are not numbers")
    if metadata["length"] and type(metadata["pad_id"]) is not int:
        raise ValueError("its pad_id is not a number")

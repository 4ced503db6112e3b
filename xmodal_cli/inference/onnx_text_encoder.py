"""An exported text encoder: encodes sentences with onnxruntime, without torch and without the model file.

The folder contains ``export.json`` (metadata and checksums), the graph for one sentence without padding
(``encoder.onnx``, with memory-mapped large weights in ``encoder.bin``), the word embeddings (``words.npy``), of which
only the rows of the sentence are read, and the tokenizer. Written by ``onnx_export``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.errors import BadData, MissingData, StorageError
from xmodal_cli.file_errors import parse_json_object, reading
from xmodal_cli.file_identity import sha256_of, size_and_mtime
from xmodal_cli.paths import write_text

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.models.tokenizer import Tokenizer


FORMAT = 1
MAX_SIZE = 1 << 22  # of a vector or a context
METADATA, GRAPH, WEIGHTS, WORDS, TOKENIZER = "export.json", "encoder.onnx", "encoder.bin", "words.npy", "tokenizer.json"
TOKENS_IN, WORDS_IN, VECTOR_OUT = "tokens", "words", "vector"  # (1, length) int64, (1, length, dim), (1, embed_dim)
_HINT = "the next search exports it again"


class OnnxTextEncoder:
    """The text encoder in ``folder``, loaded on first use.

    Raises MissingData if there is none for ``fingerprint``, BadData if a file has changed. ``export_error`` is
    the reason of a failed export; the encoder cannot be used then.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._metadata = _read_metadata(folder)
        if self._metadata["fingerprint"] != fingerprint:
            raise MissingData(f"{folder} is the export of another model", _HINT)
        self.export_error = str(self._metadata.get("refused", ""))
        self._check_files()
        self._num_runs, self._open_session = 0, None

    def is_export_of(self, source: str) -> bool:
        """Whether ``source`` is the exported model and its file has the same size and modification time."""
        record = self._metadata["source"]
        return bool(record["name"] == source and record["stamp"] == _stamp(record["path"]))

    def set_source(self, source: str, path: Path) -> None:
        """Record that the model is at ``path`` under the name ``source``."""
        self._metadata["source"] = source_record(source, path)
        self._save_metadata()

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
            with reading(self._folder / WORDS, _HINT):
                inputs[WORDS_IN] = np.asarray(self._words[ids])[None]
        with reading(self._folder / GRAPH, _HINT, what="cannot be run"):  # onnxruntime has no common error class
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
            self._open_session = open_session(self._folder / GRAPH, packed=False)
        elif self._num_runs == 2:
            self._open_session = open_session(self._folder / GRAPH, packed=True)
        return self._open_session

    @cached_property
    def _words(self) -> np.ndarray | None:
        import numpy as np

        if WORDS_IN not in self._metadata["inputs"]:
            return None
        with reading(self._folder / WORDS, _HINT):
            table: np.ndarray = np.load(self._folder / WORDS, mmap_mode="r", allow_pickle=False)
            return table

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from xmodal_cli.models.tokenizer import Tokenizer

        with reading(self._folder / TOKENIZER, _HINT):
            text = (self._folder / TOKENIZER).read_text(encoding="utf-8")
        return Tokenizer.from_json(text)

    def _check_files(self) -> None:
        """Compare size and modification time, or once the checksum if the time differs. Raises BadData."""
        has_new_stamp = False
        for name, record in self._metadata["files"].items():
            stamp = _stamp(self._folder / name)
            if stamp == record["stamp"]:
                continue
            if stamp[0] != record["stamp"][0] or _checksum(self._folder / name) != record["sha256"]:
                raise BadData(f"{self._folder / name} is not the file that was exported", _HINT)
            record["stamp"], has_new_stamp = stamp, True
        if has_new_stamp:
            self._save_metadata()

    def _save_metadata(self) -> None:
        try:
            write_text(self._folder / METADATA, json.dumps(self._metadata, indent=2) + "\n")
        except StorageError:
            return  # without the cache, the next start is only slower


def open_session(graph: Path, packed: bool) -> Any:
    """An onnxruntime session that loads fast, or with ``packed`` weights runs fast. Raises BadData.

    Measured with MiniLM: packing adds 50 ms of load time and saves 5 ms of 9 ms per sentence; memory reuse adds 15 ms
    and saves a few kilobytes; the graph is optimized when it is exported.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_reuse = False
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "0" if packed else "1")
    try:
        return onnxruntime.InferenceSession(os.fspath(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common error class
        raise BadData(f"{graph} cannot be loaded: {error}", _HINT) from error


def source_record(name: str, path: Path) -> dict[str, Any]:
    """The entry of ``export.json`` for the model file."""
    return {"name": name, "path": str(path), "stamp": _stamp(path)}


def file_records(folder: Path) -> dict[str, Any]:
    """The entries of ``export.json`` for the files in ``folder``."""
    return {f.name: {"stamp": _stamp(f), "sha256": _checksum(f)} for f in sorted(folder.iterdir())}


def _read_metadata(folder: Path) -> dict[str, Any]:
    with reading(folder / METADATA, _HINT):
        try:
            metadata = parse_json_object((folder / METADATA).read_bytes())
        except FileNotFoundError as error:
            raise MissingData(f"{folder} has no exported text encoder", _HINT) from error
        if metadata["format"] != FORMAT:
            raise ValueError("it has another format")
        if "refused" in metadata and not metadata.get("permanent"):  # of xmodal 0.1: may be due to a full disk
            raise ValueError("it records a failure of an older version")
        _check_metadata(metadata)
    return metadata


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Raise an exception, of any type, for metadata that this module did not write."""
    source = metadata["source"]
    texts = [source["name"], source["path"], metadata["fingerprint"]]
    texts += [record["sha256"] for record in metadata["files"].values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a name, path or checksum is not text")
    for stamp in [source["stamp"], *(record["stamp"] for record in metadata["files"].values())]:
        if len(stamp) != 2 or not all(type(number) is int for number in stamp):
            raise ValueError("a size or modification time is not a number")
    if "refused" in metadata:
        return
    if not set(metadata["inputs"]) <= {TOKENS_IN, WORDS_IN} or not {GRAPH, TOKENIZER} <= metadata["files"].keys():
        raise ValueError("its inputs or files are incomplete")
    if not all(type(metadata[name]) is int and 0 <= metadata[name] <= MAX_SIZE for name in ("embed_dim", "length")):
        raise ValueError("its sizes are not numbers")
    if metadata["length"] and type(metadata["pad_id"]) is not int:
        raise ValueError("its pad_id is not a number")


def _stamp(path: Path | str) -> list[int]:
    """Size and modification time; -1 and -1 for a missing file."""
    return list(size_and_mtime(path) or (-1, -1))


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""

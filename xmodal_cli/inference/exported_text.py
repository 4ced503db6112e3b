"""A matcher's text side as files: a sentence to its vector with onnxruntime alone. Knows no torch and no model file.

A folder holds ``export.json``, which says what the others have to be; the graph of one sentence at a time, without
padding (``encoder.onnx``, its large weights beside it in ``encoder.bin``, mapped, not read); the table of word vectors
(``words.npy``), of which only the sentence's rows are read; and the tokenizer. Written by ``recipes.text_export``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.errors import BadData, MissingData, StorageError
from xmodal_cli.file_identity import sha256_of, size_and_mtime
from xmodal_cli.paths import write_text

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.models.tokenizer import Tokenizer


FORMAT = 1
NOTE, GRAPH, WEIGHTS, WORDS, TOKENIZER = "export.json", "encoder.onnx", "encoder.bin", "words.npy", "tokenizer.json"
TOKENS_IN, WORDS_IN, VECTOR_OUT = "tokens", "words", "vector"  # (1, length) int64, (1, length, dim), (1, embed_dim)
_HINT = "it is made again by the next search"


class ExportedText:
    """The text side in ``folder``, loaded when the first sentence comes.

    Raises MissingData where there is none for ``fingerprint``, BadData where one of its files is not as it was
    written. ``refused`` says why a matcher's text side could not be exported; it can embed nothing then.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._note = _read_note(folder)
        if self._note["fingerprint"] != fingerprint:
            raise MissingData(f"{folder} is the export of another model", _HINT)
        self.refused = str(self._note.get("refused", ""))
        self._check_files()
        self._asked, self._opened = 0, None

    def is_of(self, source: str) -> bool:
        """Whether the model that ``source`` names is, by size and time, the file that this was made from."""
        known = self._note["source"]
        return bool(known["name"] == source and known["stamp"] == _stamp(known["path"]))

    def remember(self, source: str, path: Path) -> None:
        """The model is known to be at ``path`` too, under the name ``source``."""
        self._note["source"] = source_note(source, path)
        self._keep_note()

    def unknown_words(self, sentence: str) -> list[str]:
        """The words of a sentence that the model was not taught."""
        return self._tokenizer.unknown_words(sentence)

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        """(sentences, embed_dim) float32, what the matcher's ``embed_texts`` gives. Raises BadData."""
        import numpy as np

        found = [self._embed(ids) for ids in self._tokenizer.encode(sentences)]
        return np.concatenate(found) if found else np.zeros((0, self._note["embed_dim"]), np.float32)

    def _embed(self, ids: list[int]) -> np.ndarray:
        import numpy as np

        if length := self._note["length"]:  # of a tower that has to see a whole context
            ids = (ids + [self._note["pad_id"]] * length)[:length]
        given = {TOKENS_IN: np.array([ids], np.int64)}
        if self._words is not None:
            given[WORDS_IN] = np.asarray(self._words[ids])[None]
        try:
            vector: np.ndarray = self._session.run([VECTOR_OUT], {name: given[name] for name in self._note["inputs"]})[
                0
            ]
        except Exception as error:  # the library has no common class of errors
            raise BadData(f"{self._folder / GRAPH} cannot be run: {error}", _HINT) from error
        return vector

    @property
    def _session(self) -> Any:
        """Whoever asks a second time will ask again: then packing the weights pays."""
        self._asked += 1
        if self._asked == 1:
            self._opened = open_session(self._folder / GRAPH, packed=False)
        elif self._asked == 2:
            self._opened = open_session(self._folder / GRAPH, packed=True)
        return self._opened

    @cached_property
    def _words(self) -> np.ndarray | None:
        import numpy as np

        if WORDS_IN not in self._note["inputs"]:
            return None
        table: np.ndarray = np.load(self._folder / WORDS, mmap_mode="r", allow_pickle=False)
        return table

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from xmodal_cli.models.tokenizer import Tokenizer

        return Tokenizer.from_json((self._folder / TOKENIZER).read_text(encoding="utf-8"))

    def _check_files(self) -> None:
        """By size and time; a file of another time, as after copying, by its checksum, once."""
        moved = False
        for name, record in self._note["files"].items():
            stamp = _stamp(self._folder / name)
            if stamp == record["stamp"]:
                continue
            if stamp[0] != record["stamp"][0] or _checksum(self._folder / name) != record["sha256"]:
                raise BadData(f"{self._folder / name} is not the file that was exported", _HINT)
            record["stamp"], moved = stamp, True
        if moved:
            self._keep_note()

    def _keep_note(self) -> None:
        try:
            write_text(self._folder / NOTE, json.dumps(self._note, indent=2) + "\n")
        except StorageError:
            return  # a cache that cannot be written is only slower


def open_session(graph: Path, packed: bool) -> Any:
    """An onnxruntime session that is quick to load, or with ``packed`` weights quick to run. Raises BadData.

    Measured with MiniLM: packing costs 50 ms at loading and saves 5 ms of 9 a sentence; planning who may reuse whose
    memory costs 15 ms and saves a few kilobytes; the graph was optimised when it was written.
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
    except Exception as error:  # the library has no common class of errors
        raise BadData(f"{graph} cannot be loaded: {error}", _HINT) from error


def source_note(name: str, path: Path) -> dict[str, Any]:
    """How a note names the model's file."""
    return {"name": name, "path": str(path), "stamp": _stamp(path)}


def file_notes(folder: Path) -> dict[str, Any]:
    """How a note names the files in ``folder``."""
    return {f.name: {"stamp": _stamp(f), "sha256": _checksum(f)} for f in sorted(folder.iterdir())}


def _read_note(folder: Path) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads((folder / NOTE).read_bytes())
        complete = note["format"] == FORMAT and {"source", "fingerprint", "files"} <= note.keys()
    except FileNotFoundError as error:
        raise MissingData(f"there is no exported text encoder in {folder}", _HINT) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"{folder / NOTE} cannot be read: {error}", _HINT) from error
    if not complete:
        raise BadData(f"{folder / NOTE} is of another format", _HINT)
    return note


def _stamp(path: Path | str) -> list[int]:
    """Size and time of change; of what is not there, two numbers that no file has."""
    return list(size_and_mtime(path) or (-1, -1))


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""

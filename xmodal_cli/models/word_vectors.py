"""Initializes the word embeddings of a model from a GloVe or word2vec text file."""

from __future__ import annotations

import io
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.file_identity import open_regular
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.models.word_embeddings import WordEmbedding
from xmodal_cli.reporter import Reporter

MAX_LINE = 100_000  # characters
_HINT = "give a GloVe or word2vec text file"


def initialize_from_word_vectors(model: nn.Module, tokenizer: Tokenizer, file: Path, reporter: Reporter) -> int:
    """Copy the vectors of all words that are in ``file`` and return their number; other words stay random.

    Raises MissingData, BadData with the line, and ConfigError if the model has no word embeddings of that width.
    """
    tables = (module.table for module in model.modules() if isinstance(module, WordEmbedding))
    table = next((table for table in tables if table is not None), None)
    if table is None:
        raise ConfigError("this model has no word embeddings to initialize", "unset text.word_vectors or text.backbone")
    word_ids = tokenizer.word_ids()
    num_initialized = 0
    with torch.no_grad():
        for word, vector in _read_vectors(file, table.embedding_dim, word_ids):
            table.weight[word_ids[word]] = torch.from_numpy(vector)
            num_initialized += 1
    reporter.info(f"{num_initialized} of {len(word_ids)} words initialized from {file.name}")
    return num_initialized


def check_word_vectors(file: Path) -> None:
    """Raise MissingData or BadData unless ``file`` begins like a file of word vectors."""
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8", errors="replace") as lines:
            _, *values = lines.readline(MAX_LINE).rstrip().split(" ")
    except FileNotFoundError as error:
        raise MissingData(f"{file} does not exist", _HINT) from error
    except OSError as error:
        raise BadData(f"{file} cannot be read: {error.strerror}", _HINT) from error
    if not values or not _is_number(values[-1]):
        raise BadData(f"{file}, line 1: not a word and its vector", _HINT)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_vectors(file: Path, width: int, words: Container[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(word, (width,) float32) for all ``words`` in the file. The header line of word2vec is skipped.

    Some words of published files contain spaces, so lines are split from the right.
    """
    try:
        with io.TextIOWrapper(open_regular(file), encoding="utf-8", errors="replace") as lines:
            for line_number, line in enumerate(lines, 1):
                if line_number == 1 and _is_header(line, width, file):
                    continue
                word, *values = line.rstrip().rsplit(" ", width)
                if len(values) != width:
                    raise _bad_line(file, line_number, f"{len(values)} values, expected {width} as in the first line")
                if word in words:
                    yield word, _parse_vector(values, file, line_number)
    except FileNotFoundError as error:
        raise MissingData(f"{file} does not exist", _HINT) from error
    except OSError as error:
        raise BadData(f"{file} cannot be read: {error.strerror}", _HINT) from error


def _is_header(line: str, width: int, file: Path) -> bool:
    """Whether the first line is the header of word2vec. Raises ConfigError if the vectors are not of ``width``."""
    word, *values = line.rstrip().split(" ")
    is_counts = len(values) == 1 and word.isdigit() and values[0].isdigit()
    file_width = int(values[0]) if is_counts else len(values)
    if file_width != width:
        raise ConfigError(
            f"{file} has {file_width}-d vectors, but the word embeddings of the model are {width}-d",
            f"set model.text_encoder.args.word_dim={file_width}, or give a file with {width}-d vectors",
        )
    return is_counts


def _parse_vector(values: list[str], file: Path, line: int) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, dtype=np.float32)
    except ValueError as error:
        raise _bad_line(file, line, "not numbers") from error
    if not np.isfinite(vector).all():
        raise _bad_line(file, line, "not finite numbers")
    return vector


def _bad_line(file: Path, line: int, reason: str) -> BadData:
    return BadData(f"{file}, line {line}: {reason}", "give a GloVe or word2vec text file")

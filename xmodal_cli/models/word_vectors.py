"""Word vectors from a GloVe or word2vec text file as the start of a model's own table of words."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.models.words import Words
from xmodal_cli.reporter import Reporter


def start_from_word_vectors(model: nn.Module, tokenizer: Tokenizer, file: Path, reporter: Reporter) -> int:
    """Fill the rows of the words that ``file`` knows; returns how many. The other words keep their random start.

    Raises MissingData, BadData with the line, ConfigError where the model has no table of words or one of other width.
    """
    tables = (module.table for module in model.modules() if isinstance(module, Words))
    table = next((table for table in tables if table is not None), None)
    if table is None:
        raise ConfigError("this model has no table of words to fill", "leave out text.word_vectors or text.backbone")
    wanted = tokenizer.word_ids()
    found = 0
    with torch.no_grad():
        for word, vector in _read(file, table.embedding_dim, wanted):
            table.weight[wanted[word]] = torch.from_numpy(vector)
            found += 1
    reporter.info(f"{found} of {len(wanted)} words start from {file.name}")
    return found


def _read(file: Path, width: int, wanted: Container[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(word, (width,) float32) of the words that are wanted; word2vec's first line, two counts, is passed over.

    A few words of published files have spaces inside: the first line tells the width, the others are read from the end.
    """
    try:
        with open(file, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1 and _checked_start(line, width, file):
                    continue
                word, *values = line.rstrip().rsplit(" ", width)
                if len(values) != width:
                    raise _bad(file, number, f"{len(values)} numbers, and the first line says {width}")
                if word in wanted:
                    yield word, _numbers(values, file, number)
    except FileNotFoundError as error:
        raise MissingData(f"there is no file {file}", "give a GloVe or word2vec text file") from error
    except OSError as error:
        raise BadData(f"{file} cannot be read: {error.strerror}", "give a GloVe or word2vec text file") from error


def _checked_start(line: str, width: int, file: Path) -> bool:
    """Whether the first line is word2vec's. Raises ConfigError for vectors of another width than the model's."""
    word, *values = line.rstrip().split(" ")
    is_counts = len(values) == 1 and word.isdigit() and values[0].isdigit()
    found = int(values[0]) if is_counts else len(values)
    if found != width:
        raise ConfigError(
            f"{file} has vectors of {found} numbers, and the model's word vectors have {width}",
            f"set model.text_encoder.args.word_dim={found}, or give a file of that width",
        )
    return is_counts


def _numbers(values: list[str], file: Path, line: int) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            vector = np.array(values, dtype=np.float32)
    except ValueError as error:
        raise _bad(file, line, "not numbers") from error
    if not np.isfinite(vector).all():
        raise _bad(file, line, "not finite numbers")
    return vector


def _bad(file: Path, line: int, reason: str) -> BadData:
    return BadData(f"{file}, line {line}: {reason}", "give a GloVe or word2vec text file")

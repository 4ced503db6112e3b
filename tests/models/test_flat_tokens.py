"""Tokens in one array: what is gathered equals the padded matrix of all captions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xmodal_cli.models import flat_tokens
from xmodal_cli.models.flat_tokens import encode_flat
from xmodal_cli.models.token_batches import padded
from xmodal_cli.models.tokenizer import pad

ROWS = [[7, 65_535, 3], [1], [2, 2, 2, 2, 9], [], [70]]
CAPTIONS = [" ".join(map(str, row)) for row in ROWS]


def encode(captions: list[str]) -> list[list[int]]:
    return [[int(word) for word in caption.split()] for caption in captions]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_536, np.uint16), (65_537, np.int32)])
@pytest.mark.parametrize("chunk", [2, 100])
def test_gathered_tokens_are_those_of_the_padded_matrix(
    vocab_size: int, dtype: type, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flat_tokens, "CHUNK", chunk)
    tokens = encode_flat(CAPTIONS, encode, vocab_size)
    assert tokens.ids.dtype == dtype
    matrix, lengths = (torch.from_numpy(array) for array in pad(ROWS))
    assert torch.equal(tokens.lengths, lengths)
    for rows in ([0, 1, 2, 3, 4], [4, 0, 4], [1], [2, 3]):
        for longest in (1, 3, 5):
            gathered = tokens.gather(torch.tensor(rows), longest)
            assert gathered.dtype == torch.int64
            assert torch.equal(gathered, padded(matrix)(torch.tensor(rows), longest))


def test_no_captions() -> None:
    tokens = encode_flat([], encode, 10)
    assert len(tokens.ids) == len(tokens.lengths) == 0

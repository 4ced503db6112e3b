"""Tokens of many captions are encoded once; batches are the same with and without the cache."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from xmodal_cli.errors import BadData
from xmodal_cli.models import flat_tokens, token_cache
from xmodal_cli.models.flat_tokens import FlatTokens
from xmodal_cli.models.token_batches import padded
from xmodal_cli.models.token_cache import cached_tokens
from xmodal_cli.models.tokenizer import Tokenizer, pad
from xmodal_cli.training.batches import BatchPlan, CaptionBatches

CAPTIONS = [f"a {word} dog number {n}" + " runs" * (n % 5) for n in range(40) for word in ("red", "blue")]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "MIN_CAPTIONS", 20)
    monkeypatch.setattr(flat_tokens, "CHUNK", 7)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_captions(CAPTIONS)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions that were encoded."""
    seen: list[str] = []
    original = Tokenizer.encode

    def encode(self: Tokenizer, sentences: Sequence[str]) -> list[list[int]]:
        seen.extend(sentences)
        return original(self, sentences)

    monkeypatch.setattr(Tokenizer, "encode", encode)
    return seen


def equal(one: FlatTokens, other: FlatTokens) -> bool:
    return bool(np.array_equal(one.ids, other.ids) and torch.equal(one.lengths, other.lengths))


def test_captions_are_encoded_once(tokenizer: Tokenizer, encoded: list[str], home: Path) -> None:
    first = cached_tokens(CAPTIONS, tokenizer, tokenizer.encode)
    assert encoded == CAPTIONS and isinstance(first.ids, np.memmap)
    assert equal(cached_tokens(CAPTIONS, tokenizer, tokenizer.encode), first)
    assert encoded == CAPTIONS
    assert len(list(home.glob("cache/tokens/*/tokens.json"))) == 1


def test_few_captions_are_not_written(tokenizer: Tokenizer, home: Path) -> None:
    tokens = cached_tokens(CAPTIONS[:5], tokenizer, tokenizer.encode)
    assert len(tokens.lengths) == 5 and not (home / "cache" / "tokens").exists()


def test_batches_are_those_of_the_padded_matrix(tokenizer: Tokenizer) -> None:
    tokens = cached_tokens(CAPTIONS, tokenizer, tokenizer.encode)
    matrix, lengths = (torch.from_numpy(array) for array in pad(tokenizer.encode(CAPTIONS)))
    plan = BatchPlan(lengths, torch.arange(len(CAPTIONS)) // 4, 6, seed=1)
    features = torch.arange(len(CAPTIONS) // 4)
    expected, actual = (
        list(CaptionBatches(features, gather, plan).epoch(3)) for gather in (padded(matrix), tokens.gather)
    )
    for one, other in zip(expected, actual, strict=True):
        assert torch.equal(one.tokens, other.tokens) and torch.equal(one.lengths, other.lengths)


def test_other_captions_tokenizers_and_methods_have_tokens_of_their_own(tokenizer: Tokenizer, home: Path) -> None:
    joined = [f"{CAPTIONS[0]}{CAPTIONS[1]}", "", *CAPTIONS[2:]]
    for captions, other in ((CAPTIONS, tokenizer), (joined, tokenizer), (CAPTIONS, Tokenizer.from_captions(["a dog"]))):
        for encode in (other.encode, other.encode_captions):
            tokens = cached_tokens(captions, other, encode)
            assert tokens.ids.tolist() == [token for row in encode(captions) for token in row]
    assert len(list((home / "cache" / "tokens").glob("[!.]*"))) == 6


@pytest.mark.parametrize("name", ["ids.bin", "lengths.bin", "tokens.json"])
@pytest.mark.parametrize("damage", ["change", "cut", "delete"])
def test_damaged_tokens_are_written_again(
    tokenizer: Tokenizer, encoded: list[str], home: Path, name: str, damage: str
) -> None:
    first = cached_tokens(CAPTIONS, tokenizer, tokenizer.encode)
    values = np.array(first.ids)
    (file,) = home.glob(f"cache/tokens/*/{name}")
    content = file.read_bytes()
    del first
    if damage == "delete":
        file.unlink()
    else:
        file.write_bytes(content[:-4] if damage == "cut" else content[:9] + bytes([content[9] ^ 1]) + content[10:])
    assert np.array_equal(cached_tokens(CAPTIONS, tokenizer, tokenizer.encode).ids, values)
    assert len(encoded) == 2 * len(CAPTIONS)
    assert file.read_bytes() == content


def test_a_killed_writer_leaves_nothing_that_is_used(tokenizer: Tokenizer, home: Path) -> None:
    first = cached_tokens(CAPTIONS, tokenizer, tokenizer.encode)
    (folder,) = (home / "cache" / "tokens").glob("[!.]*")
    draft = folder.rename(folder.with_name(f".{folder.name}.build-01234567"))
    (draft / "tokens.json").unlink()
    assert equal(cached_tokens(CAPTIONS, tokenizer, tokenizer.encode), first)
    assert not draft.exists()


def test_two_writers_at_once_encode_once(tokenizer: Tokenizer, encoded: list[str]) -> None:
    found: list[FlatTokens] = []

    def use() -> None:
        found.append(cached_tokens(CAPTIONS, tokenizer, tokenizer.encode))

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and all(equal(tokens, found[0]) for tokens in found)
    assert len(encoded) == len(CAPTIONS)


def test_invalid_unicode_is_an_error(tokenizer: Tokenizer, home: Path) -> None:
    with pytest.raises(BadData, match="not valid Unicode"):
        cached_tokens([*CAPTIONS, "\ud83d"], tokenizer, tokenizer.encode)
    assert not list(home.glob("cache/tokens/*/tokens.json"))

"""What a frozen sentence encoder makes of captions: made once, kept in the cache, taken from it in batches."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xmodal_cli.device import Compute
from xmodal_cli.errors import StorageError
from xmodal_cli.inference import towers
from xmodal_cli.inference.towers import text_states
from xmodal_cli.models.token_batches import padded, ragged
from xmodal_cli.models.tokenizer import Tokenizer, pad
from xmodal_cli.reporter import SILENT
from xmodal_cli.types import TextBackbone, TextMeta

WORDS = ["a", "dog", "cat", "runs", "sleeps", "on", "the", "green", "grass", "near", "two", "children"]
DIM = 6


class Counting(nn.Module):
    """(captions, longest) ids -> states that depend on the whole caption; counts what it is asked for."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(vocab_size + 5, DIM)
        self.seen: list[tuple[int, ...]] = []
        self.padding = 0

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        self.seen += [tuple(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
        mask = (torch.arange(tokens.shape[1])[None] < lengths[:, None])[..., None]
        self.padding += int((~mask).sum())
        words = self.words(tokens)
        return words + (words * mask).sum(1, keepdim=True) / lengths[:, None, None]


class Sentence(Counting):
    """One state for a caption."""

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(tokens, lengths)[:, :1]


def captions(num: int = 40, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in range(num)]


def backbone(kind: str = "tokens", fingerprint: str = "f" * 64) -> TextBackbone:
    tokenizer = Tokenizer.from_captions([" ".join(WORDS)])
    network = (Counting if kind == "tokens" else Sentence)(tokenizer.vocab_size)
    return TextBackbone(network, tokenizer.to_json(), TextMeta("toy/encoder", fingerprint, kind, DIM))


def made(encoder: TextBackbone, sentences: list[str], precision: str = "fp32"):
    return text_states(encoder, sentences, Compute("cpu", precision), SILENT)


def direct(encoder: TextBackbone, sentences: list[str]) -> list[Tensor]:
    """Each caption alone."""
    rows = Tokenizer.from_json(encoder.tokenizer).encode(sentences)
    with torch.inference_mode():
        return [encoder.network(torch.tensor([row]), torch.tensor([len(row)]))[0] for row in rows]


@pytest.mark.parametrize("batch", [3, 256])
def test_states_are_those_of_each_caption_alone_in_the_captions_order(monkeypatch, batch):
    monkeypatch.setattr(towers, "BATCH", batch)
    encoder, sentences = backbone(), captions(200)
    take, lengths = made(encoder, sentences)
    tokens, expected_lengths = pad(Tokenizer.from_json(encoder.tokenizer).encode(sentences))
    assert lengths.tolist() == expected_lengths.tolist()
    assert Counter(encoder.network.seen) == Counter(tuple(r[:n]) for r, n in zip(tokens.tolist(), lengths, strict=True))
    states = take(torch.arange(200), int(lengths.max()))
    assert states.dtype == torch.float16
    for row, length, expected in zip(states, lengths.tolist(), direct(encoder, sentences), strict=True):
        torch.testing.assert_close(row[:length].float(), expected, rtol=1e-3, atol=1e-3)
        assert (row[length:] == 0).all()


def test_captions_of_like_length_go_through_the_network_together(monkeypatch):
    monkeypatch.setattr(towers, "BATCH", 8)
    encoder = backbone()
    _, lengths = made(encoder, captions(500))
    assert encoder.network.padding < 0.15 * int(lengths.sum())


def test_a_second_call_reads_the_cache(home):
    encoder, again = backbone(), backbone()
    take, lengths = made(encoder, captions())
    (file,) = (home / "cache" / "text").iterdir()
    written = file.read_bytes()
    assert file.name.startswith("encoder-")
    assert encoder.network.seen
    retake, relengths = made(again, captions())
    assert not again.network.seen
    assert torch.equal(lengths, relengths)
    rows = torch.tensor([7, 0, 12])
    assert torch.equal(take(rows, 10), retake(rows, 10))
    assert file.read_bytes() == written


def test_the_cache_is_never_written_to_by_who_reads_it(home):
    take, _ = made(backbone(), captions())
    (file,) = (home / "cache" / "text").iterdir()
    before = file.read_bytes()
    states = take(torch.arange(5), 4)
    states += 1
    assert file.read_bytes() == before


@pytest.mark.parametrize("change", ["captions", "order", "weights", "number format", "tokenizer"])
def test_what_makes_other_states_is_kept_apart(home, change):
    made(backbone(), captions())
    other = backbone(fingerprint="e" * 64 if change == "weights" else "f" * 64)
    if change == "tokenizer":
        other = TextBackbone(other.network, Tokenizer.from_captions([*WORDS, "more"]).to_json(), other.meta)
    sentences = {"captions": captions(seed=1), "order": captions()[::-1]}.get(change, captions())
    made(other, sentences, "bf16" if change == "number format" else "fp32")
    assert other.network.seen
    assert len(list((home / "cache" / "text").iterdir())) == 2


def test_one_state_for_a_caption():
    encoder, sentences = backbone("sentence"), captions(30)
    take, lengths = made(encoder, sentences)
    assert lengths.tolist() == [1] * 30
    states = take(torch.arange(30), 1)
    assert states.shape == (30, 1, DIM)
    expected = torch.stack(direct(encoder, sentences))
    torch.testing.assert_close(states.float(), expected, rtol=1e-3, atol=1e-3)


def test_a_network_that_fails_half_way_leaves_nothing_behind(home, monkeypatch):
    monkeypatch.setattr(towers, "BATCH", 8)
    encoder = backbone()
    forward, calls = encoder.network.forward, []

    def failing(tokens, lengths):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(tokens, lengths)

    encoder.network.forward = failing
    with pytest.raises(KeyboardInterrupt):
        made(encoder, captions(100))
    assert not list((home / "cache" / "text").iterdir())


def test_a_cache_that_cannot_be_written_is_told(home):
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "text").write_text("in the way")
    with pytest.raises(StorageError):
        made(backbone(), captions())


def test_encoding_leaves_no_gradients_and_no_training_mode():
    encoder = backbone()
    encoder.network.train()
    made(encoder, captions())
    assert not encoder.network.training
    assert encoder.network.words.weight.grad is None


def test_ragged_rows_are_the_padded_ones():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (50,), generator=generator)
    rows = [torch.randn(int(n), DIM, generator=generator) for n in lengths]
    table = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    take = ragged(torch.cat(rows), lengths)
    for _ in range(10):
        chosen = torch.randint(0, 50, (6,), generator=generator)
        longest = int(lengths[chosen].max())
        assert torch.equal(take(chosen, longest), padded(table)(chosen, longest))


def test_ragged_rows_can_be_cut_and_taken_twice():
    lengths = torch.tensor([3, 1, 2])
    states = torch.arange(1.0, 7)[:, None]
    taken = ragged(states, lengths)(torch.tensor([2, 0, 0]), 2)
    assert taken.squeeze(-1).tolist() == [[5, 6], [1, 2], [1, 2]]

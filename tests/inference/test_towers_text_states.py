"""States of captions from a frozen sentence encoder: computed once, cached, gathered in batches."""

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


class RecordingEncoder(nn.Module):
    """(captions, longest) ids -> states that depend on all tokens of the caption; records captions and padding."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(vocab_size + 5, DIM)
        self.encoded: list[tuple[int, ...]] = []
        self.padding = 0

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        self.encoded += [tuple(row[:length]) for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]
        mask = (torch.arange(tokens.shape[1])[None] < lengths[:, None])[..., None]
        self.padding += int((~mask).sum())
        words = self.words(tokens)
        return words + (words * mask).sum(1, keepdim=True) / lengths[:, None, None]


class SentenceEncoder(RecordingEncoder):
    """One state per caption."""

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(tokens, lengths)[:, :1]


def captions(num: int = 40, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0, 9))) for _ in range(num)]


def backbone(kind: str = "tokens", fingerprint: str = "f" * 64) -> TextBackbone:
    tokenizer = Tokenizer.from_captions([" ".join(WORDS)])
    network = (RecordingEncoder if kind == "tokens" else SentenceEncoder)(tokenizer.vocab_size)
    return TextBackbone(network, tokenizer.to_json(), TextMeta("toy/encoder", fingerprint, kind, DIM))


def compute_states(encoder: TextBackbone, sentences: list[str], precision: str = "fp32"):
    return text_states(encoder, sentences, Compute("cpu", precision), SILENT)


def encode_each(encoder: TextBackbone, sentences: list[str]) -> list[Tensor]:
    """Encode captions one by one."""
    rows = Tokenizer.from_json(encoder.tokenizer).encode(sentences)
    with torch.inference_mode():
        return [encoder.network(torch.tensor([row]), torch.tensor([len(row)]))[0] for row in rows]


@pytest.mark.parametrize("batch", [3, 256])
def test_states_equal_those_of_single_captions_in_order(monkeypatch, batch):
    monkeypatch.setattr(towers, "BATCH", batch)
    encoder, sentences = backbone(), captions(200)
    gather, lengths = compute_states(encoder, sentences)
    tokens, expected_lengths = pad(Tokenizer.from_json(encoder.tokenizer).encode(sentences))
    assert lengths.tolist() == expected_lengths.tolist()
    assert Counter(encoder.network.encoded) == Counter(
        tuple(r[:n]) for r, n in zip(tokens.tolist(), lengths, strict=True)
    )
    states = gather(torch.arange(200), int(lengths.max()))
    assert states.dtype == torch.float16
    for row, length, expected in zip(states, lengths.tolist(), encode_each(encoder, sentences), strict=True):
        torch.testing.assert_close(row[:length].float(), expected, rtol=1e-3, atol=1e-3)
        assert (row[length:] == 0).all()


def test_captions_of_similar_length_are_batched(monkeypatch):
    monkeypatch.setattr(towers, "BATCH", 8)
    encoder = backbone()
    _, lengths = compute_states(encoder, captions(500))
    assert encoder.network.padding < 0.15 * int(lengths.sum())


def test_a_second_call_reads_the_cache(home):
    encoder, other = backbone(), backbone()
    gather, lengths = compute_states(encoder, captions())
    (file,) = (home / "cache" / "text").iterdir()
    content = file.read_bytes()
    assert file.name.startswith("encoder-")
    assert encoder.network.encoded
    cached_gather, cached_lengths = compute_states(other, captions())
    assert not other.network.encoded
    assert torch.equal(lengths, cached_lengths)
    rows = torch.tensor([7, 0, 12])
    assert torch.equal(gather(rows, 10), cached_gather(rows, 10))
    assert file.read_bytes() == content


def test_changing_gathered_states_does_not_change_the_cache(home):
    gather, _ = compute_states(backbone(), captions())
    (file,) = (home / "cache" / "text").iterdir()
    before = file.read_bytes()
    states = gather(torch.arange(5), 4)
    states += 1
    assert file.read_bytes() == before


@pytest.mark.parametrize("change", ["captions", "order", "weights", "precision", "tokenizer"])
def test_different_inputs_have_different_cache_files(home, change):
    compute_states(backbone(), captions())
    other = backbone(fingerprint="e" * 64 if change == "weights" else "f" * 64)
    if change == "tokenizer":
        other = TextBackbone(other.network, Tokenizer.from_captions([*WORDS, "more"]).to_json(), other.meta)
    sentences = {"captions": captions(seed=1), "order": captions()[::-1]}.get(change, captions())
    compute_states(other, sentences, "bf16" if change == "precision" else "fp32")
    assert other.network.encoded
    assert len(list((home / "cache" / "text").iterdir())) == 2


def test_one_state_per_caption():
    encoder, sentences = backbone("sentence"), captions(30)
    gather, lengths = compute_states(encoder, sentences)
    assert lengths.tolist() == [1] * 30
    states = gather(torch.arange(30), 1)
    assert states.shape == (30, 1, DIM)
    expected = torch.stack(encode_each(encoder, sentences))
    torch.testing.assert_close(states.float(), expected, rtol=1e-3, atol=1e-3)


def test_an_interrupted_computation_leaves_no_cache_file(home, monkeypatch):
    monkeypatch.setattr(towers, "BATCH", 8)
    encoder = backbone()
    forward, calls = encoder.network.forward, []

    def interrupt(tokens, lengths):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(tokens, lengths)

    encoder.network.forward = interrupt
    with pytest.raises(KeyboardInterrupt):
        compute_states(encoder, captions(100))
    assert not list((home / "cache" / "text").iterdir())


def test_a_cache_that_cannot_be_written_is_an_error(home):
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "text").write_text("a file")
    with pytest.raises(StorageError):
        compute_states(backbone(), captions())


def test_encoding_is_in_evaluation_mode_without_gradients():
    encoder = backbone()
    encoder.network.train()
    compute_states(encoder, captions())
    assert not encoder.network.training
    assert encoder.network.words.weight.grad is None


def test_ragged_rows_equal_padded_rows():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (50,), generator=generator)
    rows = [torch.randn(int(n), DIM, generator=generator) for n in lengths]
    table = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    gather = ragged(torch.cat(rows), lengths)
    for _ in range(10):
        index = torch.randint(0, 50, (6,), generator=generator)
        longest = int(lengths[index].max())
        assert torch.equal(gather(index, longest), padded(table)(index, longest))


def test_ragged_rows_can_be_truncated_and_repeated():
    lengths = torch.tensor([3, 1, 2])
    states = torch.arange(1.0, 7)[:, None]
    gathered = ragged(states, lengths)(torch.tensor([2, 0, 0]), 2)
    assert gathered.squeeze(-1).tolist() == [[5, 6], [1, 2], [1, 2]]

"""Initialization of word embeddings from GloVe and word2vec files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xmodal_cli import catalog
from xmodal_cli.config import Component, ModelConfig
from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.models.assembly import Sizes, build_matcher, describe
from xmodal_cli.models.tokenizer import SPECIALS, Tokenizer
from xmodal_cli.models.word_vectors import initialize_from_word_vectors
from xmodal_cli.reporter import SILENT, SilentReporter

WIDTH = 5
FROM_SCRATCH = [name for name in catalog.names("text_encoder") if name != "identity"]
VECTORS = {
    "the": [0.1, -0.2, 0.3, 0.0, 1e-4],
    "dog": [1.0, 2.0, -3.5, 4.25, 5.0],
    "zebra": [9.0, 9.0, 9.0, 9.0, 9.0],  # in no caption
    "café": [-1.0, 0.5, 0.25, 0.125, 2.0],
}


class RecordingReporter(SilentReporter):
    """Records info messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


@pytest.fixture
def tokenizer():
    return Tokenizer.from_captions(["the dog runs", "a dog in the café", "a dog"])


def model(tokenizer, name: str = "gru", towers=None, text_dim: int = 0) -> nn.Module:
    torch.manual_seed(0)
    args = {} if name == "identity" else {"word_dim": WIDTH}
    config = ModelConfig(embed_dim=8, text_encoder=Component(name, args))
    return build_matcher(describe(config, Sizes(3, "global", tokenizer.vocab_size, text_dim)), towers)


def table_of(matcher: nn.Module) -> torch.Tensor:
    return matcher.text_encoder.words.table.weight.detach()


def text(vectors: dict[str, list[float]], header: str = "", end: str = "\n") -> str:
    return header + "".join(f"{word} {' '.join(map(str, values))}{end}" for word, values in vectors.items())


def ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {word: tokenizer.encode([word])[0][1] for word in ("the", "dog", "café", "runs", "a", "in")}


@pytest.mark.parametrize(("header", "end"), [("", "\n"), ("4 5\n", "\n"), ("4 5 \r\n", " \r\n")])
@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_words_of_the_file_are_initialized_and_others_stay_random(tmp_path, tokenizer, name, header, end):
    file = tmp_path / "vectors.txt"
    file.write_bytes(text(VECTORS, header, end).encode())
    random, initialized, reporter = model(tokenizer, name), model(tokenizer, name), RecordingReporter()
    assert initialize_from_word_vectors(initialized, tokenizer, file, reporter) == 3
    assert reporter.lines == ["3 of 6 words initialized from vectors.txt"]
    word_ids = ids(tokenizer)
    for word, word_id in word_ids.items():
        if word in VECTORS:
            np.testing.assert_array_equal(table_of(initialized)[word_id], np.float32(VECTORS[word]))
        else:
            assert torch.equal(table_of(initialized)[word_id], table_of(random)[word_id])
    assert torch.equal(table_of(initialized)[: len(SPECIALS)], table_of(random)[: len(SPECIALS)])
    for (key, value), other in zip(initialized.state_dict().items(), random.state_dict().values(), strict=True):
        assert "table" in key or torch.equal(value, other)


def test_repeated_words_spaces_and_other_scripts_are_accepted(tmp_path, tokenizer):
    file = tmp_path / "vectors.txt"
    lines = text({"犬": [1.0] * 5, "ﬁsh": [2.0] * 5}) + text({". . .": [3.0] * 5, "at dog@home": [4.0] * 5})
    file.write_bytes(
        text({"the": [7.0] * 5}).encode() + lines.encode() + b"\xff\xfe 1 2 3 4 5\n" + text(VECTORS).encode()
    )
    matcher = model(tokenizer)
    initialize_from_word_vectors(matcher, tokenizer, file, SILENT)
    for word in ("the", "dog", "café"):
        np.testing.assert_array_equal(table_of(matcher)[ids(tokenizer)[word]], np.float32(VECTORS[word]))


def test_special_tokens_are_not_initialized(tmp_path, tokenizer):
    file = tmp_path / "vectors.txt"
    file.write_text(text({word: [5.0] * WIDTH for word in SPECIALS}), encoding="utf-8")
    matcher = model(tokenizer)
    assert initialize_from_word_vectors(matcher, tokenizer, file, SILENT) == 0
    assert (table_of(matcher)[0] == 0).all()


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("dog 1 2 3\n", ConfigError, "vectors.txt has 3-d vectors, but the word embeddings of the model are 5-d"),
        ("400000 300\ndog 1 2 3 4 5\n", ConfigError, "has 300-d vectors"),
        ("dog\n", ConfigError, "has 0-d vectors"),
        ("the 1 2 3 4 5\ndog 1 2 3\n", BadData, "vectors.txt, line 2: 3 values, expected 5 as in the first line"),
        ("2 5\nthe 1 2 3 4 5\n\n", BadData, "vectors.txt, line 3: 0 values"),
        ("a 1 2 3 4 5\nzebra 1 2 3 4 x\ndog 1 2 3 4 five\n", BadData, "vectors.txt, line 3: not numbers"),
        ("the 1 2 3 4 5\ndog 1 2 nan 4 5\n", BadData, "vectors.txt, line 2: not finite numbers"),
        ("the 1 2 3 4 5\ndog 1 2 1e99 4 5\n", BadData, "vectors.txt, line 2: not finite numbers"),
    ],
)
def test_invalid_files_raise_with_the_line(tmp_path, tokenizer, content, error, message):
    file = tmp_path / "vectors.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(error, match=message) as caught:
        initialize_from_word_vectors(model(tokenizer), tokenizer, file, SILENT)
    assert str(file) in caught.value.message
    assert caught.value.hint
    if error is ConfigError:
        assert "word_dim=" in caught.value.hint


def test_missing_files_raise(tmp_path, tokenizer):
    with pytest.raises(MissingData, match="does not exist"):
        initialize_from_word_vectors(model(tokenizer), tokenizer, tmp_path / "absent.txt", SILENT)
    with pytest.raises(BadData, match="cannot be read"):
        initialize_from_word_vectors(model(tokenizer), tokenizer, tmp_path, SILENT)


class Tower(nn.Module):
    """A pretrained encoder with its own embeddings, of the same width as the file."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, WIDTH)

    def forward(self, tokens, lengths):
        return self.table(tokens)


@pytest.mark.parametrize("name", ["identity", "gru"])
def test_embeddings_of_a_pretrained_encoder_are_not_overwritten(tmp_path, tokenizer, name):
    file = tmp_path / "vectors.txt"
    file.write_text(text(VECTORS), encoding="utf-8")
    tower = Tower()
    before = tower.table.weight.clone()
    matcher = model(tokenizer, name, {"text": [(tower, False)]}, text_dim=8 if name == "identity" else WIDTH)
    with pytest.raises(ConfigError, match="no word embeddings to initialize"):
        initialize_from_word_vectors(matcher, tokenizer, file, SILENT)
    assert torch.equal(tower.table.weight, before)

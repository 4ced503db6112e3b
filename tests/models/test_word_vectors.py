"""Word vectors of published files as the start of a model's own words."""

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
from xmodal_cli.models.word_vectors import start_from_word_vectors
from xmodal_cli.reporter import SILENT, SilentReporter

WIDTH = 5
FROM_SCRATCH = [name for name in catalog.names("text_encoder") if name != "identity"]
VECTORS = {
    "the": [0.1, -0.2, 0.3, 0.0, 1e-4],
    "dog": [1.0, 2.0, -3.5, 4.25, 5.0],
    "zebra": [9.0, 9.0, 9.0, 9.0, 9.0],  # in no caption
    "café": [-1.0, 0.5, 0.25, 0.125, 2.0],
}


class Told(SilentReporter):
    """Remembers what is said."""

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
def test_known_words_start_from_the_file_and_the_others_at_random(tmp_path, tokenizer, name, header, end):
    file = tmp_path / "vectors.txt"
    file.write_bytes(text(VECTORS, header, end).encode())
    fresh, filled, told = model(tokenizer, name), model(tokenizer, name), Told()
    assert start_from_word_vectors(filled, tokenizer, file, told) == 3
    assert told.lines == ["3 of 6 words start from vectors.txt"]
    numbers = ids(tokenizer)
    for word, number in numbers.items():
        if word in VECTORS:
            np.testing.assert_array_equal(table_of(filled)[number], np.float32(VECTORS[word]))
        else:
            assert torch.equal(table_of(filled)[number], table_of(fresh)[number])
    assert torch.equal(table_of(filled)[: len(SPECIALS)], table_of(fresh)[: len(SPECIALS)])
    for (key, value), other in zip(filled.state_dict().items(), fresh.state_dict().values(), strict=True):
        assert "table" in key or torch.equal(value, other)


def test_a_words_only_last_vector_and_other_scripts_do_no_harm(tmp_path, tokenizer):
    file = tmp_path / "vectors.txt"
    lines = text({"犬": [1.0] * 5, "ﬁsh": [2.0] * 5}) + text({". . .": [3.0] * 5, "at dog@home": [4.0] * 5})
    file.write_bytes(
        text({"the": [7.0] * 5}).encode() + lines.encode() + b"\xff\xfe 1 2 3 4 5\n" + text(VECTORS).encode()
    )
    matcher = model(tokenizer)
    start_from_word_vectors(matcher, tokenizer, file, SILENT)
    for word in ("the", "dog", "café"):
        np.testing.assert_array_equal(table_of(matcher)[ids(tokenizer)[word]], np.float32(VECTORS[word]))


def test_specials_cannot_be_filled(tmp_path, tokenizer):
    file = tmp_path / "vectors.txt"
    file.write_text(text({word: [5.0] * WIDTH for word in SPECIALS}), encoding="utf-8")
    matcher = model(tokenizer)
    assert start_from_word_vectors(matcher, tokenizer, file, SILENT) == 0
    assert (table_of(matcher)[0] == 0).all()


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        ("dog 1 2 3\n", ConfigError, "vectors.txt has vectors of 3 numbers, and the model's word vectors have 5"),
        ("400000 300\ndog 1 2 3 4 5\n", ConfigError, "has vectors of 300 numbers"),
        ("dog\n", ConfigError, "has vectors of 0 numbers"),
        ("the 1 2 3 4 5\ndog 1 2 3\n", BadData, "vectors.txt, line 2: 3 numbers, and the first line says 5"),
        ("2 5\nthe 1 2 3 4 5\n\n", BadData, "vectors.txt, line 3: 0 numbers"),
        ("a 1 2 3 4 5\nzebra 1 2 3 4 x\ndog 1 2 3 4 five\n", BadData, "vectors.txt, line 3: not numbers"),
        ("the 1 2 3 4 5\ndog 1 2 nan 4 5\n", BadData, "vectors.txt, line 2: not finite numbers"),
        ("the 1 2 3 4 5\ndog 1 2 1e99 4 5\n", BadData, "vectors.txt, line 2: not finite numbers"),
    ],
)
def test_files_that_cannot_be_used_are_told_with_their_line(tmp_path, tokenizer, content, error, sentence):
    file = tmp_path / "vectors.txt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(error, match=sentence) as caught:
        start_from_word_vectors(model(tokenizer), tokenizer, file, SILENT)
    assert str(file) in caught.value.message
    assert caught.value.hint
    if error is ConfigError:
        assert "word_dim=" in caught.value.hint


def test_files_that_are_not_there(tmp_path, tokenizer):
    with pytest.raises(MissingData, match="there is no file"):
        start_from_word_vectors(model(tokenizer), tokenizer, tmp_path / "absent.txt", SILENT)
    with pytest.raises(BadData, match="cannot be read"):
        start_from_word_vectors(model(tokenizer), tokenizer, tmp_path, SILENT)


class Tower(nn.Module):
    """A pretrained encoder with a table of its own, of just the file's width."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, WIDTH)

    def forward(self, tokens, lengths):
        return self.table(tokens)


@pytest.mark.parametrize("name", ["identity", "gru"])
def test_a_pretrained_encoders_words_are_not_written_over(tmp_path, tokenizer, name):
    file = tmp_path / "vectors.txt"
    file.write_text(text(VECTORS), encoding="utf-8")
    tower = Tower()
    before = tower.table.weight.clone()
    matcher = model(tokenizer, name, {"text": [(tower, False)]}, text_dim=8 if name == "identity" else WIDTH)
    with pytest.raises(ConfigError, match="no table of words to fill"):
        start_from_word_vectors(matcher, tokenizer, file, SILENT)
    assert torch.equal(tower.table.weight, before)

"""Words to numbers: what a word is, which words are kept, and that a saved vocabulary is the vocabulary."""

from __future__ import annotations

import numpy as np
import pytest

from xmodal_cli.errors import BadData, BadModel
from xmodal_cli.models.tokenizer import SPECIALS, Tokenizer, pad

CAPTIONS = ["A dog runs.", "A dog sleeps", "the cat, the dog!"]


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A man's dog runs.", ["a", "man's", "dog", "runs"]),
        ("A man\N{RIGHT SINGLE QUOTATION MARK}s dog", ["a", "man's", "dog"]),
        ("the dogs' 'home'", ["the", "dogs", "home"]),
        ("t-shirt, 2 girls (running)", ["t", "shirt", "2", "girls", "running"]),
        ("snow_covered x--y", ["snow", "covered", "x", "y"]),
        ("Ein Mädchen läuft, été ÉTÉ", ["ein", "mädchen", "läuft", "été", "été"]),
        ("cafe\N{COMBINING ACUTE ACCENT}", ["café"]),
        ("ﬁsh Ｄｏｇ", ["fish", "dog"]),  # noqa: RUF001
        ("दो कुत्ते दौड़ते", ["दो", "कुत्ते", "दौड़ते"]),
        ("два собаки\tбегут\n", ["два", "собаки", "бегут"]),  # noqa: RUF001
        ("🐕 runs", ["runs"]),
        ("", []),
        (" ... '!' ", []),
    ],
)
def test_what_a_word_is(sentence, words):
    import unicodedata

    found = Tokenizer.from_captions(CAPTIONS).words(sentence)
    assert found == [unicodedata.normalize("NFKC", word) for word in words]


def test_frequent_words_come_first_and_the_alphabet_breaks_ties():
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    ids = {word: tokenizer.encode([word])[0][1] for word in ("dog", "a", "the", "cat", "runs", "sleeps")}
    assert ids == {"dog": 4, "a": 5, "the": 6, "cat": 7, "runs": 8, "sleeps": 9}
    assert tokenizer.vocab_size == len(SPECIALS) + 6


def test_the_order_of_captions_does_not_change_the_vocabulary():
    assert Tokenizer.from_captions(CAPTIONS).to_json() == Tokenizer.from_captions(CAPTIONS[::-1]).to_json()


def test_sentences_stand_between_start_and_end_and_unknown_words_are_unknown():
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    assert tokenizer.encode(["The Dog flies", "", "zebra"]) == [[2, 6, 4, 1, 3], [2, 3], [2, 1, 3]]
    assert tokenizer.encode([]) == []
    assert tokenizer.unknown_words("the dog flies zebras") == ["flies", "zebras"]


@pytest.mark.parametrize("sentence", ["<pad>", "<unk> <start> <end>"])
def test_nobody_can_write_a_special_token(sentence):
    tokenizer = Tokenizer.from_captions([*CAPTIONS, "pad unk start end"])
    assert all(token > 3 for token in tokenizer.encode([sentence])[0][1:-1])


def test_rare_words_are_left_out():
    tokenizer = Tokenizer.from_captions(CAPTIONS, min_count=2)
    assert tokenizer.vocab_size == len(SPECIALS) + 3  # dog, a, the
    assert tokenizer.unknown_words("the cat sleeps") == ["cat", "sleeps"]


@pytest.mark.parametrize(("captions", "min_count"), [([], 1), (["..."], 1), (CAPTIONS, 99)])
def test_no_words_at_all_is_an_error(captions, min_count):
    with pytest.raises(BadData, match="no words"):
        Tokenizer.from_captions(captions, min_count)


def test_json_brings_back_the_same_tokenizer():
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    again = Tokenizer.from_json(tokenizer.to_json())
    sentences = ["A man\N{RIGHT SINGLE QUOTATION MARK}s DOG sleeps!", "unknown words", ""]
    assert again.encode(sentences) == tokenizer.encode(sentences)
    assert again.vocab_size == tokenizer.vocab_size
    assert again.to_json() == tokenizer.to_json()


@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_a_damaged_tokenizer_is_a_sentence(text):
    with pytest.raises(BadModel, match="tokenizer"):
        Tokenizer.from_json(text)


def test_padding_is_zeros_on_the_right():
    tokens, lengths = pad([[2, 9, 3], [2, 3], []])
    assert tokens.tolist() == [[2, 9, 3], [2, 3, 0], [0, 0, 0]]
    assert lengths.tolist() == [3, 2, 0]
    assert tokens.dtype == lengths.dtype == np.int64
    assert pad([])[0].shape == (0, 0)


def pretrained(**settings):
    """A small vocabulary of word pieces between [CLS] and [SEP], as BERT's."""
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models, normalizers, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "dog", "##s", "run", "a"]
    rust = RustTokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="[UNK]"))
    rust.normalizer, rust.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    if "length" in settings:
        rust.enable_truncation(settings["length"])
    if settings.get("padded"):
        rust.enable_padding(length=12, pad_id=0, pad_token="[PAD]")
    return rust.to_str()


def test_a_pretrained_tokenizer_adds_its_own_special_tokens_and_never_loses_the_last():
    tokenizer = Tokenizer.from_json(pretrained(length=5))
    assert tokenizer.encode(["a dogs", "", "a a a a a a a"]) == [[2, 7, 4, 5, 3], [2, 3], [2, 7, 7, 7, 3]]
    assert tokenizer.vocab_size == 8
    assert tokenizer.unknown_words("a zebra") == []
    assert Tokenizer.from_json(tokenizer.to_json()).encode(["a dogs run"]) == tokenizer.encode(["a dogs run"])
    assert Tokenizer.from_json(pretrained()).encode(["a " * 20]) == [[2, *[7] * 20, 3]]


def test_a_tokenizer_that_pads_by_itself_gives_sentences_as_long_as_they_are():
    tokenizer = Tokenizer.from_json(pretrained(padded=True))
    assert tokenizer.encode(["a dog", "run"]) == [[2, 7, 4, 3], [2, 6, 3]]


def test_our_own_json_holds_nothing_but_the_words():
    """Start and end are added here: a post-processor in the JSON would change what models of before read."""
    import json

    kept = json.loads(Tokenizer.from_captions(CAPTIONS).to_json())
    assert kept["post_processor"] is kept["truncation"] is kept["padding"] is None
    assert kept["model"]["type"] == "WordLevel" and kept["added_tokens"] == []

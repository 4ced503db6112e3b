"""Words to token ids: word boundaries, the vocabulary, and saving and loading it."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from xmodal_cli.errors import BadData, BadModel, ConfigError
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
def test_word_boundaries(sentence, words):
    import unicodedata

    actual = Tokenizer.from_captions(CAPTIONS).words(sentence)
    assert actual == [unicodedata.normalize("NFKC", word) for word in words]


def test_words_are_sorted_by_frequency_and_then_alphabetically():
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    ids = {word: tokenizer.encode([word])[0][1] for word in ("dog", "a", "the", "cat", "runs", "sleeps")}
    assert ids == {"dog": 4, "a": 5, "the": 6, "cat": 7, "runs": 8, "sleeps": 9}
    assert tokenizer.vocab_size == len(SPECIALS) + 6


def test_the_order_of_captions_does_not_change_the_vocabulary():
    assert Tokenizer.from_captions(CAPTIONS).to_json() == Tokenizer.from_captions(CAPTIONS[::-1]).to_json()


def test_sentences_get_start_and_end_tokens_and_unknown_words_the_unknown_id():
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    assert tokenizer.encode(["The Dog flies", "", "zebra"]) == [[2, 6, 4, 1, 3], [2, 3], [2, 1, 3]]
    assert tokenizer.encode([]) == []
    assert tokenizer.unknown_words("the dog flies zebras") == ["flies", "zebras"]


@pytest.mark.parametrize("sentence", ["<pad>", "<unk> <start> <end>"])
def test_text_cannot_contain_special_tokens(sentence):
    tokenizer = Tokenizer.from_captions([*CAPTIONS, "pad unk start end"])
    assert all(token > 3 for token in tokenizer.encode([sentence])[0][1:-1])


def test_rare_words_are_not_in_the_vocabulary():
    tokenizer = Tokenizer.from_captions(CAPTIONS, min_count=2)
    assert tokenizer.vocab_size == len(SPECIALS) + 3  # dog, a, the
    assert tokenizer.unknown_words("the cat sleeps") == ["cat", "sleeps"]


@pytest.mark.parametrize("captions", [[], ["..."]])
def test_captions_without_words_raise(captions):
    with pytest.raises(BadData, match="no words"):
        Tokenizer.from_captions(captions, 99)


def test_a_vocabulary_without_words_names_the_largest_count():
    most = max(
        Counter(word for caption in CAPTIONS for word in Tokenizer.from_captions(CAPTIONS).words(caption)).values()
    )
    with pytest.raises(ConfigError, match="no word occurs 99 times") as error:
        Tokenizer.from_captions(CAPTIONS, 99)
    assert error.value.hint == f"set data.min_word_count to {most} or less"
    Tokenizer.from_captions(CAPTIONS, most)


def test_a_tokenizer_is_restored_from_its_json():
    tokenizer = Tokenizer.from_captions(CAPTIONS)
    restored = Tokenizer.from_json(tokenizer.to_json())
    sentences = ["A man\N{RIGHT SINGLE QUOTATION MARK}s DOG sleeps!", "unknown words", ""]
    assert restored.encode(sentences) == tokenizer.encode(sentences)
    assert restored.vocab_size == tokenizer.vocab_size
    assert restored.to_json() == tokenizer.to_json()


@pytest.mark.parametrize("text", ["", "{}", "not json"])
def test_a_damaged_tokenizer_raises(text):
    with pytest.raises(BadModel, match="tokenizer"):
        Tokenizer.from_json(text)


def test_padding_is_zeros_on_the_right():
    tokens, lengths = pad([[2, 9, 3], [2, 3], []])
    assert tokens.tolist() == [[2, 9, 3], [2, 3, 0], [0, 0, 0]]
    assert lengths.tolist() == [3, 2, 0]
    assert tokens.dtype == lengths.dtype == np.int64
    assert pad([])[0].shape == (0, 0)


def pretrained(**settings):
    """A small WordPiece vocabulary with [CLS] and [SEP], like that of BERT."""
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


def test_a_pretrained_tokenizer_adds_its_special_tokens_also_when_it_truncates():
    tokenizer = Tokenizer.from_json(pretrained(length=5))
    assert tokenizer.encode(["a dogs", "", "a a a a a a a"]) == [[2, 7, 4, 5, 3], [2, 3], [2, 7, 7, 7, 3]]
    assert tokenizer.vocab_size == 8
    assert tokenizer.unknown_words("a zebra") == []
    assert Tokenizer.from_json(tokenizer.to_json()).encode(["a dogs run"]) == tokenizer.encode(["a dogs run"])
    assert Tokenizer.from_json(pretrained()).encode(["a " * 20]) == [[2, *[7] * 20, 3]]


def test_padding_of_a_pretrained_tokenizer_is_disabled():
    tokenizer = Tokenizer.from_json(pretrained(padded=True))
    assert tokenizer.encode(["a dog", "run"]) == [[2, 7, 4, 3], [2, 6, 3]]


def test_the_json_of_a_word_level_tokenizer_contains_only_words():
    """``encode`` adds start and end; a post-processor in the JSON would change the input of existing models."""
    import json

    fields = json.loads(Tokenizer.from_captions(CAPTIONS).to_json())
    assert fields["post_processor"] is fields["truncation"] is fields["padding"] is None
    assert fields["model"]["type"] == "WordLevel" and fields["added_tokens"] == []


def test_the_vocabulary_counts_the_words_of_whole_captions():
    """Captions are split at spaces before they are normalized; characters that combine do not cross one."""
    random = Random(0)
    alphabet = "ab A'\N{RIGHT SINGLE QUOTATION MARK}-.\u00a8\u0301\u0308\u00a0\u3000\u00bd\ufb01\u1100\u1161\t\n  1"
    captions = ["".join(random.choices(alphabet, k=random.randint(0, 12))) for _ in range(3000)]
    tokenizer = Tokenizer.from_captions(captions)
    counts = Counter(word for caption in captions for word in tokenizer.words(caption))
    ids = tokenizer.word_ids()
    assert sorted(ids, key=lambda word: ids[word]) == sorted(counts, key=lambda word: (-counts[word], word))
    assert len(counts) > 500

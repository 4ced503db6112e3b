"""Words that subword tokenizers do not know: the WordPiece tokenizer of BERT, and byte-level BPE."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers

from xmodal_cli.captioning.tags import tag_prompt
from xmodal_cli.errors import BadData
from xmodal_cli.inference.models import describe_model
from xmodal_cli.models import subwords
from xmodal_cli.models.tokenizer import Tokenizer

KNOWN = [
    *("two dogs running", "a zebra and a quokka", "café naïve", "straße Đặng", "20°C for €5", "©", ""),
    "\N{LEFT DOUBLE QUOTATION MARK}dogs\N{RIGHT DOUBLE QUOTATION MARK} and\N{HORIZONTAL ELLIPSIS}",
]
UNKNOWN = [
    ("犬が走る", ["犬が走る"]),
    ("a 狗 runs", ["狗"]),
    ("\N{DOG FACE} dog", ["\N{DOG FACE}"]),
    ("собака, (כלב)!", ["собака", "כלב"]),
    ("한국 ελληνικά", ["한국", "ελληνικά"]),
    ("हिन्दी", ["हिन्दी"]),
    ("snow \N{SNOWMAN}", ["\N{SNOWMAN}"]),
    ("a \N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}", ["\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}"]),
]


@pytest.fixture(scope="module")
def bert() -> Tokenizer:
    """The tokenizer of the bundled matcher."""
    return Tokenizer.from_json(describe_model("starter").header.tokenizer)


@pytest.mark.parametrize("sentence", KNOWN)
def test_words_of_the_vocabulary(bert: Tokenizer, sentence: str) -> None:
    assert bert.unknown_words(sentence) == []


@pytest.mark.parametrize(("sentence", "words"), UNKNOWN)
def test_other_scripts_and_emoji(bert: Tokenizer, sentence: str, words: list[str]) -> None:
    assert bert.unknown_words(sentence) == words


def byte_level(*merges: str) -> Tokenizer:
    """Byte-level BPE with the 256 bytes and the ``merges`` of its characters."""
    pieces = [tuple(merge.split()) for merge in merges]
    tokens = [*subwords._byte_characters().values(), *(a + b for a, b in pieces)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    rust = RustTokenizer(models.BPE(vocabulary, pieces))
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return Tokenizer(rust)


def test_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = byte_level()
    assert plain.unknown_words("a dog") == []
    assert plain.unknown_words("caf\N{LATIN SMALL LETTER E WITH ACUTE}") == []  # a Latin letter
    assert plain.unknown_words("a \N{DOG FACE} собака") == ["\N{DOG FACE}", "собака"]
    letters = "Ð Ĵ", "ÐĴ ÐĴ"  # the Cyrillic letter de, and two of it
    d = "\N{CYRILLIC CAPITAL LETTER VE}"
    assert byte_level(*letters).unknown_words(d + d) == [d + d]  # its script is not that of the vocabulary
    monkeypatch.setattr(subwords, "MIN_PIECES", 1)
    assert byte_level(*letters).unknown_words(d + d) == []


def test_text_that_is_not_unicode(bert: Tokenizer) -> None:
    for function in (bert.encode, lambda sentences: tag_prompt(bert, sentences)):
        with pytest.raises(BadData, match="not valid Unicode"):
            function(["caf\udce9"])

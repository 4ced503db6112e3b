"""Sentences to token ids with a `tokenizers` JSON: a word-level vocabulary, or that of a pretrained text tower.

Word-level tokens are lower-cased runs of letters, digits and inner apostrophes; punctuation is dropped, as in
Karpathy's tokens. A pretrained tokenizer (BERT, CLIP) has its own rules, special tokens and maximum length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Regex, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from xmodal_cli.errors import BadData, BadModel, ConfigError
from xmodal_cli.models.subwords import SubwordVocabulary
from xmodal_cli.types import SpecialTokens

PAD, UNKNOWN, START, END = "<pad>", "<unk>", "<start>", "<end>"
SPECIALS = (PAD, UNKNOWN, START, END)  # ids 0, 1, 2, 3
PRETRAINED_SPECIAL_TOKENS = (
    ("<|endoftext|>", "<|endoftext|>"),
    ("[CLS]", "[SEP]"),
    ("<s>", "</s>"),
)  # GPT-2, BERT, RoBERTa
NOT_A_WORD = r"[^\p{L}\p{M}\p{N}']+|(?<![\p{L}\p{M}\p{N}])'|'(?![\p{L}\p{N}])"  # \p{M}: vowel signs and accents
CURLY = "\N{RIGHT SINGLE QUOTATION MARK}"


class Tokenizer:
    """A vocabulary, and the rules that split a sentence into tokens."""

    def __init__(self, rust: RustTokenizer) -> None:
        rust.no_padding()  # ``pad`` does the padding
        self._rust = rust
        self._is_word_level = isinstance(rust.model, models.WordLevel)

    @classmethod
    def from_captions(cls, captions: Iterable[str], min_count: int = 1, max_words: int = 0) -> Tokenizer:
        """A vocabulary of the words that occur at least ``min_count`` times, most frequent first.

        ``max_words`` limits it to the most frequent ones, special tokens not counted; 0: no limit. Raises BadData
        if the captions have no words, ConfigError if all are rarer.
        """
        counts = _count_words(cls(_word_level({})), captions)
        words = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        words = words[: max_words or None]
        if not counts:
            raise BadData(
                "there are no words in the training captions", "check the captions with `xmodal data info DATA`"
            )
        if not words:
            raise ConfigError(
                f"no word occurs {min_count:,} times in the training captions, so the vocabulary is empty",
                f"set data.min_word_count to {max(counts.values()):,} or less",
            )
        return cls(_word_level({word: i for i, word in enumerate((*SPECIALS, *words))}))

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The inverse of ``to_json``. Raises BadModel."""
        try:
            return cls(RustTokenizer.from_str(text))
        except Exception as error:  # the library raises bare Exception
            raise BadModel(f"the model's tokenizer cannot be read: {error}", "train or download it again") from error

    def to_json(self) -> str:
        """The tokenizer as JSON."""
        return str(self._rust.to_str())

    @property
    def is_word_level(self) -> bool:
        """Whether its tokens are whole words."""
        return self._is_word_level

    @property
    def vocab_size(self) -> int:
        """Number of ids, including special tokens."""
        return int(self._rust.get_vocab_size())

    def words(self, sentence: str) -> list[str]:
        """The lower-cased words of a sentence, in the vocabulary or not. For word-level vocabularies only."""
        normalizer = self._rust.normalizer  # None in some pretrained tokenizers
        normalized = normalizer.normalize_str(sentence) if normalizer is not None else sentence
        return [word for word, _ in self._rust.pre_tokenizer.pre_tokenize_str(normalized)]

    def unknown_words(self, sentence: str) -> list[str]:
        """The out-of-vocabulary words of a sentence; for a subword vocabulary, see ``models.subwords``."""
        if not self._is_word_level:
            return self._subwords.unknown_words(sentence)
        return [word for word in self.words(sentence) if self._rust.token_to_id(word) is None]

    @cached_property
    def _subwords(self) -> SubwordVocabulary:
        return SubwordVocabulary(self._rust)

    def word_ids(self) -> dict[str, int]:
        """Word -> id for all words of the vocabulary, without special tokens."""
        return {word: i for word, i in self._rust.get_vocab().items() if word not in SPECIALS}

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """One list of ids per sentence: with START and END, or as the post-processor of the JSON defines it.

        If the tokenizer truncates, it does so before it adds the end token.
        """
        check_unicode(sentences)
        if self._rust.post_processor is not None:
            return [item.ids for item in self._rust.encode_batch_fast(list(sentences))]
        start, end = SPECIALS.index(START), SPECIALS.index(END)
        encoded: list[Any] = self._rust.encode_batch_fast(list(sentences), add_special_tokens=False)
        return [[start, *item.ids, end] for item in encoded]

    @property
    def special_tokens(self) -> SpecialTokens:
        """BOS, EOS, and the ids that captions must not contain. Raises BadModel if there is no EOS token."""
        for names in ((START, END), *PRETRAINED_SPECIAL_TOKENS):
            start, end = (self._rust.token_to_id(name) for name in names)
            if start is not None and end is not None:
                special = {start, *self._special_ids()} - {end}
                return SpecialTokens(start, end, tuple(sorted(special)))
        raise BadModel(
            "the tokenizer has no end-of-sentence token", "use a tokenizer with one, for example that of GPT-2"
        )

    def encode_captions(self, captions: Sequence[str]) -> list[list[int]]:
        """One list of ids per caption, from BOS to EOS."""
        check_unicode(captions)
        special_tokens = self.special_tokens
        encoded = self._rust.encode_batch_fast(list(captions), add_special_tokens=False)
        return [[special_tokens.bos, *item.ids, special_tokens.eos] for item in encoded]

    def decode(self, tokens: Sequence[int]) -> str:
        """The sentence of ``tokens``, without special tokens."""
        if not self._is_word_level:
            return str(self._rust.decode(list(tokens))).strip()
        return " ".join(str(self._rust.id_to_token(t)) for t in tokens if t >= len(SPECIALS))

    def _special_ids(self) -> list[int]:
        return [i for i in map(self._rust.token_to_id, SPECIALS) if i is not None]


def _count_words(tokenizer: Tokenizer, captions: Iterable[str]) -> Counter[str]:
    """Word -> how often it occurs. Words have no spaces: the captions are split there, and equal parts read once."""
    parts: Counter[str] = Counter()
    for caption in captions:
        parts.update(caption.split(" "))
    counts: Counter[str] = Counter()
    for part, count in parts.items():
        for word in tokenizer.words(part):
            counts[word] += count
    return counts


def check_unicode(sentences: Sequence[str]) -> None:
    """Raise BadData for a sentence with surrogates: bytes that are not UTF-8, or half of a character."""
    try:
        "".join(sentences).encode()
    except UnicodeEncodeError:
        bad = next(sentence for sentence in sentences if any("\ud800" <= c <= "\udfff" for c in sentence))
        raise BadData(f"the text {bad!a} is not valid Unicode", "write it in UTF-8") from None


def pad(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids -> (sentences, longest) int64 padded with 0, and (sentences,) int64 lengths.

    0 may be a word of a pretrained vocabulary: padding is defined by the lengths, not by the id.
    """
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    tokens = np.zeros((len(rows), int(lengths.max(initial=0))), dtype=np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return tokens, lengths


def _word_level(vocabulary: dict[str, int]) -> RustTokenizer:
    rust = RustTokenizer(models.WordLevel(vocabulary or {UNKNOWN: 0}, unk_token=UNKNOWN))
    straight_apostrophes = normalizers.Replace(CURLY, "'")
    rust.normalizer = normalizers.Sequence([normalizers.NFKC(), straight_apostrophes, normalizers.Lowercase()])
    rust.pre_tokenizer = pre_tokenizers.Split(Regex(NOT_A_WORD), behavior="removed")
    return rust

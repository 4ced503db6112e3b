"""Words that a subword tokenizer splits without knowing them: other scripts, emoji and rare symbols.

A subword vocabulary has tokens for every text, down to single characters or bytes. A model has learned nothing about a
word of such tokens. A word is reported if

- one of its tokens is the unknown token, such as ``[UNK]`` of BERT, or it has no tokens at all,
- one of its characters is split into bytes (byte-level BPE), or
- it has letters of a script of which the vocabulary has almost only single letters.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer as RustTokenizer

MIN_PIECES = 300  # tokens of two letters or more from which on a script is known; BERT's English has 8 of Cyrillic
_UNKNOWN = ("[UNK]", "<unk>")
_CONTINUATION = ("##", "\N{LOWER ONE EIGHTH BLOCK}")  # in front of tokens in WordPiece, and of words in SentencePiece


class SubwordVocabulary:
    """The tokens of a subword tokenizer."""

    def __init__(self, rust: RustTokenizer) -> None:
        self._rust = rust
        self._unknown = {getattr(rust.model, "unk_token", None), *_UNKNOWN}

    def unknown_words(self, sentence: str) -> list[str]:
        """The words of a sentence that are reported, see the module; in ASCII there are none."""
        if sentence.isascii():
            return []
        return [_trim(word) for word in sentence.split() if not word.isascii() and self._is_unknown(word)]

    def _is_unknown(self, word: str) -> bool:
        encoded = self._rust.encode(word, add_special_tokens=False)
        if not encoded.tokens or self._unknown & set(encoded.tokens):
            return any(unicodedata.category(character)[0] in "LNS" for character in word)
        covered = Counter(start for start, end in encoded.offsets if end - start == 1)
        split = {word[start] for start, count in covered.items() if count > 1}
        if any(not character.isascii() and _script(character) != "LATIN" for character in split):
            return True
        return bool({_script(c) for c in word if c.isalpha()} - self._known_scripts)

    @cached_property
    def _known_scripts(self) -> set[str]:
        """Scripts with at least ``MIN_PIECES`` tokens of two letters or more; Latin always."""
        counts: Counter[str] = Counter()
        decode_byte = {character: byte for byte, character in _byte_characters().items()}
        for token in self._rust.get_vocab(with_added_tokens=False):
            text = token if token.isascii() else _decode_bytes(token, decode_byte)
            for prefix in _CONTINUATION:
                text = text.removeprefix(prefix)
            if not text.isascii() and len(text) > 1:
                scripts = {_script(character) for character in text if character.isalpha()}
                counts.update(scripts)
        return {"LATIN", *(script for script, count in counts.items() if count >= MIN_PIECES)}


def _trim(word: str) -> str:
    """The word without punctuation around it; an emoji stays as it is."""
    return word.strip("".join(c for c in word if unicodedata.category(c).startswith("P"))) or word


def _script(character: str) -> str:
    """The first word of the character's Unicode name, such as ``CYRILLIC`` or ``CJK``; kana count as one script."""
    name = unicodedata.name(character, "").partition(" ")[0]
    return "KANA" if name in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA") else name


def _decode_bytes(token: str, decode_byte: dict[str, int]) -> str:
    """The text of a token of byte-level BPE; the token itself if it is not one."""
    try:
        return bytes(decode_byte[character] for character in token.removesuffix("</w>")).decode()
    except (KeyError, UnicodeDecodeError):
        return token


def _byte_characters() -> dict[int, str]:
    """The characters by which byte-level BPE writes the 256 bytes (GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}

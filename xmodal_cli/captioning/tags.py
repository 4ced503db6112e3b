"""Tags: content words in front of a caption that control what it mentions, in training and with ``--tags``.

With a word vocabulary a tagged caption is ``<start> dog ball <start> a dog ... <end>``; with the vocabulary of GPT-2,
which has one token for BOS and EOS, ``[dog] [ball] a dog ...``. Tags are a prompt: the loss starts at the first word
after them.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from random import Random

from xmodal_cli.errors import ConfigError
from xmodal_cli.function_words import COMMON_WORDS
from xmodal_cli.models.tokenizer import Tokenizer, check_unicode

MAX_TAGS = 2  # per caption in training


def tag_prompt(tokenizer: Tokenizer, tags: Sequence[str]) -> list[int]:
    """The tokens between BOS and the first word. Raises ConfigError for out-of-vocabulary words."""
    words = [tag.strip() for tag in tags if tag.strip()]
    if not words:
        return []
    check_unicode(words)
    if _has_single_special_token(tokenizer):
        _raise_for_unknown(tokenizer, words)
        return _encode(tokenizer, " ".join(f"[{word}]" for word in words) + " ")
    _raise_for_unknown(tokenizer, words)
    return [*_encode(tokenizer, " ".join(words)), tokenizer.special_tokens.bos]


def _raise_for_unknown(tokenizer: Tokenizer, words: Sequence[str]) -> None:
    for tag in words:
        for unknown in tokenizer.unknown_words(tag):
            raise _unknown_word(tokenizer, unknown)


def pick_tags(words: Sequence[str], random: Random) -> list[str]:
    """One or two content words of a caption, in random order; none if it has none."""
    content_words = list(dict.fromkeys(word for word in words if word not in COMMON_WORDS and not word.isdigit()))
    return random.sample(content_words, min(random.randint(1, MAX_TAGS), len(content_words)))


def known_tags(tokenizer: Tokenizer, tags: Sequence[str]) -> list[str]:
    """Those of ``tags`` that ``tag_prompt`` accepts."""
    return [tag for tag in tags if _has_single_special_token(tokenizer) or not tokenizer.unknown_words(tag)]


def add_tags(
    tokenizer: Tokenizer,
    captions: Sequence[Sequence[int]],
    prob: float,
    random: Random,
    given: Sequence[Sequence[str]] | None = None,
) -> tuple[list[list[int]], list[int]]:
    """Put tags in front of each caption with probability ``prob``; captions run from BOS to EOS.

    The tags are ``given``, one list per caption, or else one or two words of the caption itself.
    Returns the captions and the lengths of their prompts. The loss of caption ``c`` starts after token ``lengths[c]``.
    """
    tagged: list[list[int]] = []
    lengths: list[int] = []
    for number, caption in enumerate(captions):
        tags: Sequence[str] = ()
        if random.random() < prob:
            tags = pick_tags(_words(tokenizer, caption), random) if given is None else given[number]
        prompt = tag_prompt(tokenizer, tags)
        tagged.append([caption[0], *prompt, *caption[1:]])
        lengths.append(len(prompt))
    return tagged, lengths


def _words(tokenizer: Tokenizer, caption: Sequence[int]) -> list[str]:
    """The words of a caption without unknown words and punctuation."""
    known = [token for token in caption[1:-1] if token not in tokenizer.special_tokens.banned]
    words = (word.strip(".,;:!?\"'()").lower() for word in tokenizer.decode(known).split())
    return [word for word in words if word]


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_captions([text])[0][1:-1]


def _has_single_special_token(tokenizer: Tokenizer) -> bool:
    return tokenizer.special_tokens.bos == tokenizer.special_tokens.eos


def _unknown_word(tokenizer: Tokenizer, word: str) -> ConfigError:
    matches = difflib.get_close_matches(word.lower(), tokenizer.word_ids(), n=1, cutoff=0.6)
    hint = f"did you mean {matches[0]!r}?" if matches else "use common words of the training captions"
    return ConfigError(f"the tag {word!r} is not in the captioner's vocabulary", hint)

"""Tags: a few words before a caption that say what it should speak of, at training and at ``--tags``.

In a vocabulary of words a caption with tags is ``<start> dog ball <start> a dog ... <end>``; in GPT-2's, where one
mark is start and end, ``[dog] [ball] a dog ...``. The tags are given, never learnt: the loss begins with the first word
after them. Knows no model.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from random import Random

from xmodal_cli.errors import ConfigError
from xmodal_cli.models.tokenizer import Tokenizer

MOST = 2  # tags of a caption in training
# words that say nothing of what is seen
_COMMON = """
a about across after against all along also an and another are around as at away back be been before behind being
below beside between both but by can close down during each every few for from front get gets getting has have having
he her hers him his in inside into is it its itself just large little look looking looks lot made make making many
more most near next no not of off on one onto or other others out outside over past several she small so some that the
their them there they this through to together toward towards two three four under up very was way were what where
which while who whose with without you
"""
COMMON = frozenset(_COMMON.split())


def tag_prompt(tokenizer: Tokenizer, tags: Sequence[str]) -> list[int]:
    """The tokens between the start mark and the first word. Raises ConfigError for words the model does not know."""
    words = [tag.strip() for tag in tags if tag.strip()]
    if not words:
        return []
    if _is_running_text(tokenizer):
        return _inner(tokenizer, " ".join(f"[{word}]" for word in words) + " ")
    for tag in words:
        for unknown in tokenizer.unknown_words(tag):
            _refuse(tokenizer, unknown)
    return [*_inner(tokenizer, " ".join(words)), tokenizer.special_tokens.bos]


def pick_tags(words: Sequence[str], random: Random) -> list[str]:
    """One or two words of a caption that say something, in random order; none where it has none."""
    telling = list(dict.fromkeys(word for word in words if word not in COMMON and not word.isdigit()))
    return random.sample(telling, min(random.randint(1, MOST), len(telling)))


def with_tags(
    tokenizer: Tokenizer, captions: Sequence[Sequence[int]], share: float, seed: int
) -> tuple[list[list[int]], list[int]]:
    """Captions from start to end mark -> a ``share`` of them with tags of their own words, and the tags' lengths.

    The first word of caption ``c`` is what follows its token number ``lengths[c]``; the loss begins there.
    """
    random = Random(seed)
    tagged: list[list[int]] = []
    lengths: list[int] = []
    for caption in captions:
        tags = pick_tags(_words(tokenizer, caption), random) if random.random() < share else []
        prompt = tag_prompt(tokenizer, tags)
        tagged.append([caption[0], *prompt, *caption[1:]])
        lengths.append(len(prompt))
    return tagged, lengths


def _words(tokenizer: Tokenizer, caption: Sequence[int]) -> list[str]:
    """The known words of a caption, without punctuation."""
    known = [token for token in caption[1:-1] if token not in tokenizer.special_tokens.banned]
    words = (word.strip(".,;:!?\"'()").lower() for word in tokenizer.decode(known).split())
    return [word for word in words if word]


def _inner(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode_captions([text])[0][1:-1]


def _is_running_text(tokenizer: Tokenizer) -> bool:
    return tokenizer.special_tokens.bos == tokenizer.special_tokens.eos


def _refuse(tokenizer: Tokenizer, word: str) -> None:
    near = difflib.get_close_matches(word.lower(), tokenizer.word_ids(), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]!r}?" if near else "give plain words that captions of the training data use"
    raise ConfigError(f"the captioner does not know the word {word!r}", hint)

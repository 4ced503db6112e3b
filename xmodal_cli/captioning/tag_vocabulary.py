"""The words that a tagger predicts: the most frequent content words of captions, and the targets of its training.

Content words are the words of a caption without ``STOP_WORDS`` and without numbers. Parts of speech are
not used: what remains are nouns, verbs and adjectives, in the form in which they occur, so that a captioner knows them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np

from xmodal_cli.errors import BadData
from xmodal_cli.function_words import STOP_WORDS
from xmodal_cli.models.tokenizer import Tokenizer


def content_words(caption: str) -> list[str]:
    """The lower-cased content words of a caption, in order."""
    words = _word_splitter().words(caption)
    return [word for word in words if word not in STOP_WORDS and len(word) > 1 and not word.isdigit()]


def choose_tags(captions: Sequence[Sequence[str]], num_tags: int, min_images: int) -> list[str]:
    """The most frequent content words, by the number of images; ties in alphabetical order.

    ``captions`` has those of each image. Raises BadData if no word occurs with ``min_images`` images.
    """
    counts = Counter(word for image in captions for word in {w for text in image for w in content_words(text)})
    words = sorted((w for w, n in counts.items() if n >= min_images), key=lambda w: (-counts[w], w))
    if not words:
        raise BadData(
            f"no content word occurs in the captions of {min_images} training images",
            "decrease it with --set tagging.min_images=1, or use a larger dataset",
        )
    return words[:num_tags]


def tag_targets(captions: Sequence[Sequence[str]], tags: Sequence[str]) -> np.ndarray:
    """(images, tags) float32: the fraction of the image's captions that contain the tag; 0 without captions."""
    column = {tag: number for number, tag in enumerate(tags)}
    targets = np.zeros((len(captions), len(tags)), np.float32)
    for row, texts in zip(targets, captions, strict=True):
        for text in texts:
            for word in set(content_words(text)) & column.keys():
                row[column[word]] += 1 / len(texts)
    return targets


@cache
def _word_splitter() -> Tokenizer:
    return Tokenizer.from_captions(["word"])

"""ROUGE-L (Lin, 2004) as in the COCO evaluation: best precision and best recall over the references, beta 1.2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.rouge_kernel import WordRows, rouge_pairs
from xmodal_cli.metrics.token_rows import WordIds, Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 30
LABELS = {"rouge_l": "ROUGE-L"}
PERCENT = True

EMPTY = ("",)  # the code of COCO treats an empty sentence as one empty word, so that two of them match


def build() -> CaptionMetric:
    """The score ``rouge_l`` in [0, 1]; the total is the mean over the candidates."""
    return _rouge_l


def _rouge_l(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    check_pairs(candidates, references)
    if not all(references):
        raise ValueError("an image has no references")
    sentences = [*candidates, *(reference for of_image in references for reference in of_image)]
    ids = WordIds().encode([sentence or EMPTY for sentence in sentences])
    images = np.arange(len(candidates))
    # WordRows stores captions by image: the candidates are the captions of additional images, one per candidate
    image_of_caption = np.concatenate((images + len(images), np.repeat(images, [len(refs) for refs in references])))
    scores = rouge_pairs(WordRows.of(ids, image_of_caption, 2 * len(images)), images, images)
    return MetricScores({"rouge_l": float(scores.mean())}, {"rouge_l": scores})

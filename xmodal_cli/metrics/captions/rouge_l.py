"""ROUGE-L (Lin, 2004) as the COCO evaluation has it: best precision and best recall over the references, beta 1.2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.rouge_kernel import WordRows, rouge_pairs
from xmodal_cli.metrics.token_rows import Numbering, Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 30
LABELS = {"rouge_l": "ROUGE-L"}
PERCENT = True

NOTHING = ("",)  # COCO's code takes an empty sentence for one empty word, so that it is like another empty sentence


def build() -> CaptionMetric:
    """A metric from 0 to 1, named ``rouge_l``: the mean over the candidates."""
    return _rouge_l


def _rouge_l(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    check_pairs(candidates, references)
    if not all(references):
        raise ValueError("an image has no reference")
    sentences = [*candidates, *(reference for those in references for reference in those)]
    numbers = Numbering().sentences([sentence or NOTHING for sentence in sentences])
    images = np.arange(len(candidates))
    # candidates stand beside the images, as an image of their own each
    owner = np.concatenate((images + len(images), np.repeat(images, [len(those) for those in references])))
    each = rouge_pairs(WordRows.of(numbers, owner, 2 * len(images)), images, images)
    return MetricScores({"rouge_l": float(each.mean())}, {"rouge_l": each})

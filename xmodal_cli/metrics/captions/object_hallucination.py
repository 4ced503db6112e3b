"""Objects in captions that no reference names, as in CHAIR (Rohrbach et al., arXiv 1809.02156), without annotations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.metrics.english_words import check_english
from xmodal_cli.metrics.object_words import mentioned_objects, named_in
from xmodal_cli.metrics.token_rows import Words, check_pairs
from xmodal_cli.types import CaptionMetric, MetricScores

ORDER = 80
LABELS = {"object_hallucination": "hallucination"}
JSON_ONLY = ("hallucinated_objects",)
PERCENT = True
LOWER_IS_BETTER = True


def build() -> CaptionMetric:
    """``object_hallucination``: the fraction of captions with an object that no reference names (CHAIRs).

    ``hallucinated_objects``: the fraction of objects that no reference names, each object once per caption (CHAIRi).
    Objects and synonyms are those of ``metrics/object_words.py``; other words are ignored. Raises Unavailable if the
    references are not English.
    """
    return _object_hallucination


def _object_hallucination(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> MetricScores:
    check_pairs(candidates, references)
    check_english(references)
    mentioned = [{name for _, name in mentioned_objects(words)} for words in candidates]
    wrong = [len(names - named_in(texts)) for names, texts in zip(mentioned, references, strict=True)]
    counts, totals = np.array(wrong, np.float64), np.array([len(names) for names in mentioned], np.float64)
    per_candidate = {
        "object_hallucination": (counts > 0).astype(np.float64),
        "hallucinated_objects": counts / np.maximum(totals, 1),
    }
    rate = float(counts.sum() / max(totals.sum(), 1))
    return MetricScores(
        {"object_hallucination": float((counts > 0).mean()), "hallucinated_objects": rate}, per_candidate
    )

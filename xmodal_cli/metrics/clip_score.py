"""CLIPScore and RefCLIPScore (Hessel et al., arXiv 2104.08718), computed from the vectors of a CLIP model.

As in the paper, every caption and reference is to be encoded with the prefix ``PROMPT``.
"""

from __future__ import annotations

import numpy as np

from xmodal_cli.unit_vectors import unit_vectors

PROMPT = "A photo depicts "
WEIGHT = 2.5


def clip_score(images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """(items, dim) image and caption vectors, not necessarily normalized -> (items,) float64 2.5 max(cosine, 0)."""
    return np.asarray(
        WEIGHT * np.maximum((unit_vectors(images, np.float64) * unit_vectors(captions, np.float64)).sum(1), 0)
    )


def ref_clip_score(
    scores: np.ndarray, captions: np.ndarray, references: np.ndarray, item_of_reference: np.ndarray
) -> np.ndarray:
    """(items,) float64: the harmonic mean of CLIPScore and the highest cosine with a reference, 0 if one of them is 0.

    ``scores`` (items,) are CLIPScores, ``references`` is (references, dim), ``item_of_reference`` (references,) the
    index of each one's item. The score of an item without references is 0.
    """
    cosines = (unit_vectors(references, np.float64) * unit_vectors(captions, np.float64)[item_of_reference]).sum(1)
    best = np.zeros(len(captions))
    np.maximum.at(best, item_of_reference, cosines)
    total = scores + best
    return np.divide(2 * scores * best, total, out=np.zeros(len(best)), where=total > 0)

"""CLIPScore and RefCLIPScore (Hessel et al., arXiv 2104.08718) on vectors of a CLIP model. Knows no model.

The paper puts ``PROMPT`` before every caption, and before every reference, before they are encoded.
"""

from __future__ import annotations

import numpy as np

from xmodal_cli.unit_vectors import unit_vectors

PROMPT = "A photo depicts "
WEIGHT = 2.5


def clip_score(images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """(items, dim) image and caption vectors of any length -> (items,) float64: 2.5 max(cosine, 0)."""
    return np.asarray(
        WEIGHT * np.maximum((unit_vectors(images, np.float64) * unit_vectors(captions, np.float64)).sum(1), 0)
    )


def ref_clip_score(scores: np.ndarray, captions: np.ndarray, references: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(items,) float64: the harmonic mean of CLIPScore and the best cosine with a reference, 0 where one is 0.

    ``scores`` (items,) are CLIPScores, ``references`` is (references, dim), and ``owner`` (references,) says whose each
    is. An item without references has the score 0.
    """
    cosines = (unit_vectors(references, np.float64) * unit_vectors(captions, np.float64)[owner]).sum(1)
    best = np.zeros(len(captions))
    np.maximum.at(best, owner, cosines)
    total = scores + best
    return np.divide(2 * scores * best, total, out=np.zeros(len(best)), where=total > 0)

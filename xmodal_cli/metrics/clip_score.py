"""CLIPScore and RefCLIPScore (Hessel et al., arXiv 2104.08718) on vectors of a CLIP model. Knows no model.

The paper puts ``PROMPT`` before every caption, and before every reference, before they are encoded.
"""

from __future__ import annotations

import numpy as np

PROMPT = "A photo depicts "
WEIGHT = 2.5


def clip_score(images: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """(items, dim) image and caption vectors of any length -> (items,) float64: 2.5 max(cosine, 0)."""
    return np.asarray(WEIGHT * np.maximum((_unit(images) * _unit(captions)).sum(1), 0))


def ref_clip_score(scores: np.ndarray, captions: np.ndarray, references: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(items,) float64: the harmonic mean of CLIPScore and the best cosine with a reference, 0 where one is 0.

    ``scores`` (items,) are CLIPScores, ``references`` is (references, dim), and ``owner`` (references,) says whose each
    is. An item without references has the score 0.
    """
    cosines = (_unit(references) * _unit(captions)[owner]).sum(1)
    best = np.zeros(len(captions))
    np.maximum.at(best, owner, cosines)
    total = scores + best
    return np.divide(2 * scores * best, total, out=np.zeros(len(best)), where=total > 0)


def _unit(vectors: np.ndarray) -> np.ndarray:
    wide = np.asarray(vectors, np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))

"""CIDEr-D against cached references, as self-critical training asks for it, against pycocoevalcap's dictionaries."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from xmodal_cli.metrics.cider_scorer import CiderScorer

NUM_IMAGES, NUM_REFERENCES, VOCABULARY = 6000, 5, 7000
BATCHES, BATCH = 8, 500  # captions that both score, in batches of a hundred images with five samples
TIMES_FASTER = 10
PER_SECOND = 15_000  # on one core

pytestmark = [pytest.mark.bench, pytest.mark.slow]


def made_up(rng: np.random.Generator) -> tuple[list[list[list[int]]], list[list[int]], np.ndarray]:
    """References of about eleven words, as often as words are in captions, and captions that share words with them."""
    share = 1 / np.arange(2, VOCABULARY + 2)
    sentence = lambda: rng.choice(VOCABULARY, rng.integers(7, 17), p=share / share.sum()).tolist()  # noqa: E731
    references = [[sentence() for _ in range(NUM_REFERENCES)] for _ in range(NUM_IMAGES)]
    images = rng.integers(0, NUM_IMAGES, BATCHES * BATCH)
    captions = [references[i][0][: rng.integers(2, 9)] + sentence()[: rng.integers(3, 6)] for i in images]
    return references, captions, images


def test_the_scorer_is_far_quicker_than_dictionaries(report, seconds):
    references, captions, images = made_up(np.random.default_rng(0))
    made = []
    building = seconds(lambda: made.append(CiderScorer(references)))
    scorer = made[0]
    scorer.scores(images[:10], captions[:10])  # compiled beforehand
    ours, theirs = [], []
    gts = {n: [" ".join(map(str, r)) for r in references[i]] for n, i in enumerate(images)}
    res = {n: [" ".join(map(str, c))] for n, c in enumerate(captions)}
    for batch in range(BATCHES):
        part = slice(batch * BATCH, (batch + 1) * BATCH)
        ours.append(seconds(partial(scorer.scores, images[part], captions[part])))
    for batch in range(3):
        keys = range(batch * BATCH, (batch + 1) * BATCH)
        of_keys = [{n: texts[n] for n in keys} for texts in (gts, res)]
        peer: list[Any] = []
        theirs.append(seconds(lambda of_keys=of_keys, peer=peer: peer.append(Cider().compute_score(*of_keys)[1])))
        # the peer counts documents in what it is given
        own = CiderScorer([references[images[n]] for n in keys])
        mine = own.scores(np.arange(BATCH), captions[batch * BATCH : (batch + 1) * BATCH])
        np.testing.assert_allclose(mine, peer[0], rtol=0, atol=1e-9)
    ratio = float(np.median(theirs) / np.median(ours))
    rate = BATCH / float(np.median(ours))
    report(
        "CIDEr-D, batches of 500 captions, one core",
        f"{rate:,.0f} captions/s; pycocoevalcap {BATCH / float(np.median(theirs)):,.0f}: {ratio:.0f} times",
    )
    report("CIDEr-D, counting 30,000 references once", f"{building:.1f} s")
    assert scorer.scores(images[:BATCH], captions[:BATCH]).mean() > 0.1
    assert ratio >= TIMES_FASTER
    assert rate >= PER_SECOND

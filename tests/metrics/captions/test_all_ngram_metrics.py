"""BLEU, ROUGE-L, CIDEr and CIDEr-D against pycocoevalcap, on synthetic sentences and on three published sets."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.metrics.bleu_scorer import BleuScorer
from xmodal_cli.metrics.cider_scorer import CiderScorer

SENTENCE = st.lists(st.sampled_from(["a", "b", "c", "d", "dog", "the"]), max_size=14)
IMAGES = st.lists(st.tuples(SENTENCE, st.lists(SENTENCE, min_size=1, max_size=7)), min_size=1, max_size=6)
EDGES = {
    "an empty candidate": [([], [["a", "dog"], ["dog"]]), (["a"], [["a"]])],
    "an empty reference": [(["a", "dog"], [[], ["a"]]), (["the"], [["the"]])],
    "an empty candidate and an empty reference": [([], [[]]), (["a"], [["a"]])],
    "one word": [(["a"], [["a"]]), (["dog"], [["a", "dog"], ["a"]])],
    "a repeated word": [(["a"] * 30, [["a", "a"], ["a", "b", "a"]]), (["b"], [["c"]])],
    "unknown words": [(["x", "y", "x", "y", "x", "a"], [["a", "b"]]), (["z"], [["a"]])],
    "many references": [(["a", "b", "c", "d"], [list("abcd"[:n] * 3) for n in range(1, 5)] * 10), (["b"], [["b"]])],
    "longer than a machine word": [(list("abcd" * 30), [list("dcba" * 25), list("abdc" * 40)]), (["b"], [["b"]])],
    "one image": [(["a", "b"], [["a", "b", "c"], ["b"]])],
}


def pycocoevalcap_scores(name, candidates, references):
    gts = {n: [" ".join(r) for r in of_image] for n, of_image in enumerate(references)}
    res = {n: [" ".join(c)] for n, c in enumerate(candidates)}
    if name == "bleu":
        totals, per_candidate = Bleu().compute_score(gts, res, verbose=0)
        return np.array(totals), np.array(per_candidate)
    total, per_candidate = (Rouge() if name == "rouge-l" else Cider()).compute_score(gts, res)
    return np.array([total]), np.array([per_candidate])


def xmodal_scores(name, candidates, references):
    scores = catalog.build("caption_metric", name, {})(candidates, references)
    assert list(scores.total) == list(scores.per_candidate)
    return np.array(list(scores.total.values())), np.array(list(scores.per_candidate.values()))


def compare(candidates, references):
    for name in ("bleu", "rouge-l", "cider", "cider-d"):
        scores, expected = (f(name, candidates, references) for f in (xmodal_scores, pycocoevalcap_scores))
        for values, expected_values in zip(scores, expected, strict=True):
            np.testing.assert_allclose(values, expected_values, rtol=0, atol=1e-9, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(IMAGES)
def test_random_sentences_score_as_in_pycocoevalcap(images):
    assume(any(reference for _, references in images for reference in references))  # it fails without any word
    compare(*zip(*images, strict=True))


@pytest.mark.parametrize("images", EDGES.values(), ids=EDGES)
def test_edge_cases_score_as_in_pycocoevalcap(images):
    compare(*zip(*images, strict=True))


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["flickr8k_init_2", "flickr8k_merge_1", "flickr8k_par_3"])
def test_the_published_sets_score_as_in_pycocoevalcap_and_as_published(real_data, name):
    content = json.loads((real_data / "f8k/dataset_flickr8k.json").read_text(encoding="utf-8"))
    of_image = {i["filename"]: [s["tokens"] for s in i["sentences"]] for i in content["images"]}
    folder = real_data / "caption-scores"
    references = [of_image[image] for image in (folder / "images.txt").read_text(encoding="utf-8").split()]
    candidates = [line.split() for line in (folder / f"{name}.txt").read_text(encoding="utf-8").splitlines()]
    assert len(candidates) == len(references) == 1000
    compare(candidates, references)
    published = json.loads((folder / "scores.json").read_text(encoding="utf-8"))[name]
    for metric, labels in (
        ("bleu", [f"Bleu_{n}" for n in range(1, 5)]),
        ("rouge-l", ["ROUGE_L"]),
        ("cider", ["CIDEr"]),
    ):
        totals, _ = xmodal_scores(metric, candidates, references)
        assert [f"{x:.4f}" for x in totals] == [f"{published[label]:.4f}" for label in labels]


# ---------------------------------------------------------------------------- the scorer of self-critical training


@pytest.fixture
def token_ids():
    """References of 40 images, and 300 captions with words of the references and unknown words."""
    rng = np.random.default_rng(0)
    sentence = lambda max_length, num_words: rng.integers(0, num_words, rng.integers(0, max_length)).tolist()  # noqa: E731
    references = [[sentence(14, 12) for _ in range(rng.integers(1, 8))] for _ in range(40)]
    captions = [sentence(16, 15) for _ in range(300)]
    return references, captions, rng.integers(0, 40, 300)


def slow_cider_d(caption, references, documents, sigma=6.0):
    """The formula, with dictionaries."""

    def ngrams(sentence, n):
        all_ngrams = [tuple(sentence[i : i + n]) for i in range(len(sentence) - n + 1)]
        return {g: all_ngrams.count(g) for g in all_ngrams}

    def vector(sentence, n):
        frequency = lambda g: sum(any(g in ngrams(r, n) for r in of_image) for of_image in documents)  # noqa: E731
        return {g: c * np.log(len(documents) / max(1, frequency(g))) for g, c in ngrams(sentence, n).items()}

    norm = lambda v: np.sqrt(sum(x * x for x in v.values()))  # noqa: E731
    total = 0.0
    for reference in references:
        difference = max(len(caption) - 1, 0) - max(len(reference) - 1, 0)
        for n in range(1, 5):
            c, r = vector(caption, n), vector(reference, n)
            if norm(c) and norm(r):
                dot = sum(min(c[g], r[g]) * r[g] for g in c if g in r)
                total += dot / norm(c) / norm(r) * np.exp(-(difference**2) / (2 * sigma**2))
    return 10 * total / 4 / len(references)


def test_the_scorer_takes_captions_in_any_order_and_separate_documents(token_ids):
    references, captions, images = token_ids
    documents = [*references[:25], [[0, 1, 2, 3], [4, 4]]]
    scorer = CiderScorer(references, documents, sigma=4.0)
    scores = scorer.scores(images, captions)
    expected = [slow_cider_d(captions[n], references[images[n]], documents, 4.0) for n in range(8)]
    np.testing.assert_allclose(scores[:8], expected, rtol=1e-12, atol=1e-12)
    assert max(expected) > 0.05
    order = np.random.default_rng(1).permutation(len(captions))
    np.testing.assert_array_equal(scorer.scores(images[order], [captions[n] for n in order]), scores[order])


def test_the_scorer_equals_the_metric(token_ids):
    references, captions, _ = token_ids
    words = [[str(t) for t in c] for c in captions[:40]]
    reference_words = [[[str(t) for t in r] for r in of_image] for of_image in references]
    expected = catalog.build("caption_metric", "cider-d", {})(words, reference_words).per_candidate["cider_d"]
    scores = CiderScorer(references).scores(np.arange(40), captions[:40])
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    explicit = catalog.build("caption_metric", "cider-d", {"documents": reference_words})(words, reference_words)
    np.testing.assert_allclose(explicit.per_candidate["cider_d"], expected, rtol=0, atol=1e-12)


def test_padding_is_ignored(token_ids):
    references, captions, images = token_ids
    lengths = np.array([len(c) for c in captions])
    padded = np.full((len(captions), lengths.max() + 2), 3)
    for row, caption in enumerate(captions):
        padded[row, : len(caption)] = caption
    for scorer in (CiderScorer(references), BleuScorer(references)):
        np.testing.assert_array_equal(scorer.scores(images, padded, lengths), scorer.scores(images, captions))


def test_eos_counts_if_it_is_included():
    references = [[[5, 6, 7, 1]], [[8, 9, 1]]]
    with_eos, without_eos = CiderScorer(references).scores(np.array([0, 0]), [[5, 6, 7, 1], [5, 6, 7]])
    assert with_eos > without_eos > 0


def test_invalid_arguments_raise():
    scorer = CiderScorer([[[1, 2]], [[3]]])
    with pytest.raises(ValueError, match="2 images for 1 captions"):
        scorer.scores(np.array([0, 1]), [[1]])
    with pytest.raises(IndexError, match=r"in \[0, 1\]"):
        scorer.scores(np.array([2]), [[1]])
    with pytest.raises(ValueError, match="not -1"):
        scorer.scores(np.array([0]), [[-1]])
    with pytest.raises(ValueError, match=r"image 1 \(from 0\) has no references"):
        CiderScorer([[[1]], []])
    with pytest.raises(IndexError, match=r"in \[0, 1\]"):
        BleuScorer([[[1, 2]], [[3]]]).scores(np.array([-1]), [[1]])
    with pytest.raises(ConfigError, match="sigma must be above 0"):
        catalog.build("caption_metric", "cider-d", {"sigma": 0})
    assert scorer.scores(np.zeros(0, np.int64), []).shape == (0,)


@pytest.mark.parametrize("name", ["bleu", "rouge-l", "cider", "cider-d"])
def test_candidates_and_references_must_have_the_same_length(name):
    metric = catalog.build("caption_metric", name, {})
    with pytest.raises(ValueError, match="one candidate per image"):
        metric([["a"]], [])
    with pytest.raises(ValueError, match="no reference"):
        metric([["a"], ["b"]], [[["a"]], []])

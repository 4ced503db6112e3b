"""CLIPScore against values computed by hand, and of a tiny CLIP model with random weights."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.metrics.clip_score import PROMPT, clip_score, ref_clip_score
from xmodal_cli.recipes.clip_score import score_with_clip
from xmodal_cli.types import Example, ImageTextDataset

IMAGES = np.array([[2.0, 0], [0, 1], [1, 1]])
CAPTIONS = np.array([[3.0, 4], [0, -1], [0, 0.5]])


def test_clip_score_is_two_and_a_half_cosines_and_never_below_zero():
    np.testing.assert_allclose(clip_score(IMAGES, CAPTIONS), [2.5 * 0.6, 0, 2.5 / np.sqrt(2)])


def test_ref_clip_score_is_the_harmonic_mean_with_the_best_reference():
    references = np.array([[1.0, 0], [0, 1], [0, 1], [0, -7]])
    per_caption = clip_score(IMAGES, CAPTIONS)
    scores = ref_clip_score(per_caption, CAPTIONS, references, np.array([0, 0, 1, 2]))
    best = 0.8  # of (0.6, 0.8) with (0, 1)
    np.testing.assert_allclose(scores, [2 / (1 / 1.5 + 1 / best), 0, 0])


@pytest.fixture
def dataset(tmp_path):
    examples = []
    for i, color in enumerate(("red", "green", "blue")):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (40, 30), color).save(path)
        examples.append(Example(str(i), path, (f"a {color} square", "an image")[: i + 1], "test"))
    return ImageTextDataset("three", "folder", tmp_path, tuple(examples))


def test_a_matcher_scores_captions(tiny_clip, dataset):
    import open_clip
    import torch

    name, network = tiny_clip("scores")
    candidates = ["a red thing", "green", "the sky"]
    scores = score_with_clip(name, dataset, candidates, Compute("cpu", "fp32"))
    arch = name.removeprefix("open_clip/").partition("@")[0]
    preprocess = open_clip.image_transform(32, is_train=False)
    with torch.inference_mode():
        pixels = torch.stack([preprocess(Image.open(e.path)) for e in dataset.examples])
        images = network.encode_image(pixels).numpy()
        texts = network.encode_text(open_clip.get_tokenizer(arch)([PROMPT + c for c in candidates])).numpy()
    expected = 2.5 * np.maximum(
        0, [np.dot(i, t) / np.linalg.norm(i) / np.linalg.norm(t) for i, t in zip(images, texts, strict=True)]
    )
    assert scores.clip_score == pytest.approx(expected.mean(), abs=0.02)
    assert scores.ref_clip_score is not None and 0 <= scores.ref_clip_score <= 2
    with pytest.raises(ConfigError, match="2 captions for 3 images"):
        score_with_clip(name, dataset, candidates[:2])

"""Captions of the demo's test images: metrics, the number of true captions, and samples for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from xmodal_cli.captioning.attention_maps import is_square, square_maps
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.data.scene_truth import caption_is_true
from xmodal_cli.data.scenes import Scene
from xmodal_cli.data.selection import select_captioned
from xmodal_cli.data.shapes import scenes_in_test_split
from xmodal_cli.demo.results import Captioned, CaptionerPart, Truth
from xmodal_cli.evaluation.caption_scores import score_captions
from xmodal_cli.features.image_features import read_image_features
from xmodal_cli.inference.caption_types import Caption
from xmodal_cli.inference.captioners import caption_features, load_captioner
from xmodal_cli.inference.towers import input_features
from xmodal_cli.reporter import Reporter
from xmodal_cli.types import Example, ImageTextDataset

METRICS = ("bleu", "cider")


def caption_test(run: Path, data: str, samples: Sequence[Example], reporter: Reporter) -> CaptionerPart:
    """Caption the test split with the captioner of ``run``; ``samples`` are shown on the page. Raises XmodalError."""
    loaded = load_captioner(str(run))
    dataset = select_captioned(load_dataset(data), "test")
    images = read_image_features(dataset, input_features(loaded.info.config), loaded.compute, reporter)
    features = torch.cat(list(images.batches(len(images.dataset.examples))))  # grid features
    captions = [best for best, *_ in caption_features([loaded], [features], loaded.decoding, attention=True)]
    examples = images.dataset.examples
    result = score_captions([caption.text for caption in captions], [e.captions for e in examples], METRICS)
    scenes = scenes_of(dataset)
    sample_ids = {example.image_id for example in samples}
    shown = [
        captioned_photo(
            example.path, caption, caption_is_true(caption.text, scenes[example.image_id]) if scenes else None
        )
        for example, caption in zip(examples, captions, strict=True)
        if example.image_id in sample_ids and example.path is not None
    ]
    result = replace(result, model=loaded.name, data=data, split="test")
    return CaptionerPart(run, result, count_true(examples, captions, scenes) if scenes else None, shown)


def scenes_of(test: ImageTextDataset) -> dict[str, Scene]:
    """The scene of each test image by image id; empty if the dataset is not the generated one."""
    scenes = scenes_in_test_split(num_test=len(test.examples))
    scene_of = {example.image_id: scene for example, scene in zip(test.examples, scenes, strict=True)}
    is_generated = all(
        caption_is_true(caption, scene_of[example.image_id])
        for example in test.examples
        for caption in example.captions
    )
    return scene_of if is_generated else {}


def count_true(examples: Sequence[Example], captions: Sequence[Caption], scenes: dict[str, Scene]) -> Truth:
    """Count the true captions; there is one caption per example."""
    false = [
        caption.text
        for example, caption in zip(examples, captions, strict=True)
        if not caption_is_true(caption.text, scenes[example.image_id])
    ]
    return Truth(len(captions) - len(false), len(captions), false)


def captioned_photo(photo: Path, caption: Caption, true: bool | None = None, views: int = 1) -> Captioned:
    """A caption with its attention maps, if it has attention weights and the cells are a square grid."""
    weights = caption.attention
    has_maps = weights is not None and len(weights) and is_square(weights.shape[1], views)
    maps = square_maps(weights, views) if has_maps and weights is not None else None
    return Captioned(photo, caption.text, caption.words, maps, true)

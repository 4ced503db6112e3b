"""The demo's captioner on the test pictures: captions of all, figures, how many are true, and some to show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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


def caption_test(run: Path, data: str, chosen: Sequence[Example], reporter: Reporter) -> CaptionerPart:
    """Caption the test split with the captioner ``run``; ``chosen`` are the examples to show. Raises XmodalError."""
    loaded = load_captioner(str(run))
    part = select_captioned(load_dataset(data), "test")
    seen = read_image_features(part, input_features(loaded.info.config), loaded.compute, reporter)
    assert seen.features is not None  # of cells
    answers = [best for best, *_ in caption_features([loaded], [seen.features], loaded.decoding, attention=True)]
    examples = seen.dataset.examples
    metrics = score_captions([a.text for a in answers], [e.captions for e in examples], METRICS)
    scenes = scenes_of(part)
    wanted = {example.image_id for example in chosen}
    shown = [
        captioned_photo(
            example.path, answer, caption_is_true(answer.text, scenes[example.image_id]) if scenes else None
        )
        for example, answer in zip(examples, answers, strict=True)
        if example.image_id in wanted and example.path is not None
    ]
    return CaptionerPart(
        run, {"images": len(examples), **metrics}, count_true(examples, answers, scenes) if scenes else None, shown
    )


def scenes_of(test: ImageTextDataset) -> dict[str, Scene]:
    """What each picture of the test split shows; empty where the split is not the generated one."""
    scenes = scenes_in_test_split(num_test=len(test.examples))
    known = {example.image_id: scene for example, scene in zip(test.examples, scenes, strict=True)}
    ours = all(
        caption_is_true(caption, known[example.image_id]) for example in test.examples for caption in example.captions
    )
    return known if ours else {}


def count_true(examples: Sequence[Example], answers: Sequence[Caption], scenes: dict[str, Scene]) -> Truth:
    """One caption for each example."""
    false = [
        answer.text
        for example, answer in zip(examples, answers, strict=True)
        if not caption_is_true(answer.text, scenes[example.image_id])
    ]
    return Truth(len(answers) - len(false), len(answers), false)


def captioned_photo(photo: Path, caption: Caption, true: bool | None = None, views: int = 1) -> Captioned:
    """A caption with maps of what each word looked at, where the captioner tells and the cells are a square grid."""
    weights = caption.attention
    mapped = weights is not None and len(weights) and is_square(weights.shape[1], views)
    maps = square_maps(weights, views) if mapped and weights is not None else None
    return Captioned(photo, caption.text, caption.words, maps, true)

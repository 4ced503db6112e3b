"""CLIPScore of captions by a matcher, such as ``open_clip/ViT-B-32/openai``: no references are needed for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.inference.encoding import embed_images
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.metrics.clip_score import PROMPT, clip_score, ref_clip_score
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import ImageTextDataset


def score_with_clip(
    matcher: str,
    dataset: ImageTextDataset,
    candidates: Sequence[str],
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> dict[str, float]:
    """``clip_score`` and ``ref_clip_score`` of one candidate for each image of ``dataset``, means over the images.

    Raises ConfigError for a number of candidates that is not the images', and
    IncompatibleFeatures for a matcher that does not compare by the cosine; images that cannot be read are left out.
    """
    if len(candidates) != len(dataset.examples):
        raise ConfigError(f"{len(candidates)} captions for {len(dataset.examples)} images", "give one for each image")
    loaded = load_matcher(matcher, compute)
    if loaded.info.similarity != "cosine":
        raise IncompatibleFeatures(f"{loaded.name} compares by {loaded.info.similarity}", "CLIPScore needs the cosine")
    caption_of = dict(zip(dataset.ids, candidates, strict=True))
    part, images = embed_images(loaded, dataset, reporter)
    captions = loaded.embed_texts([PROMPT + caption_of[image_id] for image_id in part.ids])
    scores = clip_score(images, captions)
    metrics = {"clip_score": float(scores.mean())}
    if part.captions:
        references = loaded.embed_texts([PROMPT + caption for caption in part.captions])
        both = ref_clip_score(scores, captions, references, np.asarray(part.image_of_caption))
        metrics["ref_clip_score"] = float(both.mean())
    return metrics

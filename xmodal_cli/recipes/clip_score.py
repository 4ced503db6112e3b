"""CLIPScore and RefCLIPScore of captions with a matcher such as ``open_clip/ViT-B-32/openai`` (arXiv 2104.08718)."""

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
    """Mean ``clip_score`` and ``ref_clip_score`` of one candidate per image of ``dataset``.

    ``ref_clip_score`` is present if the dataset has captions. Unreadable images are skipped. Raises ConfigError if the
    numbers of candidates and images differ, IncompatibleFeatures for a matcher without cosine similarity.
    """
    if len(candidates) != len(dataset.examples):
        raise ConfigError(
            f"{len(candidates)} captions for {len(dataset.examples)} images", "give one caption per image"
        )
    loaded = load_matcher(matcher, compute)
    if loaded.info.similarity != "cosine":
        raise IncompatibleFeatures(
            f"{loaded.name} has {loaded.info.similarity} similarity", "CLIPScore needs a matcher with cosine similarity"
        )
    caption_of = dict(zip(dataset.ids, candidates, strict=True))
    part, images = embed_images(loaded, dataset, reporter)
    captions = loaded.embed_texts([PROMPT + caption_of[image_id] for image_id in part.ids])
    scores = clip_score(images, captions)
    metrics = {"clip_score": float(scores.mean())}
    if part.captions:
        references = loaded.embed_texts([PROMPT + caption for caption in part.captions])
        ref_scores = ref_clip_score(scores, captions, references, np.asarray(part.image_of_caption))
        metrics["ref_clip_score"] = float(ref_scores.mean())
    return metrics

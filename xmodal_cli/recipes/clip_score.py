"""CLIPScore and RefCLIPScore of captions with a matcher such as ``open_clip/ViT-B-32/openai`` (arXiv 2104.08718)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.inference.encoding import embed_images
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.metrics.clip_score import PROMPT, clip_score, ref_clip_score
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.result_json import OPTIONAL
from xmodal_cli.types import ImageTextDataset


@dataclass(frozen=True)
class ClipScores:
    """Means over the images. ``ref_clip_score`` is None without reference captions."""

    clip_score: float
    ref_clip_score: float | None = field(default=None, metadata=OPTIONAL)


def score_with_clip(
    matcher: str,
    dataset: ImageTextDataset,
    candidates: Sequence[str],
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> ClipScores:
    """Score one candidate per image of ``dataset``. Unreadable images are skipped.

    Raises ConfigError if the numbers of candidates and images differ, IncompatibleFeatures for a matcher without cosine
    similarity.
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
    if not part.captions:
        return ClipScores(float(scores.mean()))
    references = loaded.embed_texts([PROMPT + caption for caption in part.captions])
    ref_scores = ref_clip_score(scores, captions, references, np.asarray(part.image_of_caption))
    return ClipScores(float(scores.mean()), float(ref_scores.mean()))

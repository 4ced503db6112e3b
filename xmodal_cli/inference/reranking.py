"""Re-ranking of generated captions by a matcher: ``decoding.rerank``.

The score of a caption is that of the search plus ``decoding.rerank_weight`` times the similarity of the image and the
caption. Candidates are all captions of the beam, so that a larger beam gives more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xmodal_cli.device import Compute
from xmodal_cli.inference.caption_types import Caption
from xmodal_cli.inference.models import ModelInfo, describe_as
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import Decoding

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.inference.exported_matcher import ExportedMatcher
    from xmodal_cli.inference.matchers import LoadedMatcher

HINT = "decoding.rerank takes a matcher; `xmodal models list` shows them"


@dataclass(frozen=True)
class Reranker:
    """Re-ranks captions by ``matcher``, and keeps the ``num`` best of each image."""

    matcher: LoadedMatcher | ExportedMatcher
    weight: float
    num: int

    def rerank(self, captions: Sequence[Sequence[Caption]], image_vectors: np.ndarray) -> list[list[Caption]]:
        """The captions of each image with their new scores, best first; ``image_vectors`` are (images, embed_dim).

        Captions with equal scores keep their order.
        """
        similarity = array_similarity(self.matcher.info.similarity)
        texts = list(dict.fromkeys(caption.text for n_best in captions for caption in n_best))
        row_of, vectors = {text: row for row, text in enumerate(texts)}, self.matcher.embed_texts(texts)
        results = []
        for image, n_best in zip(image_vectors, captions, strict=True):
            rows = vectors[[row_of[caption.text] for caption in n_best]]
            (values,) = similarity.score_matrix(image[None], rows)
            scored = [
                replace(caption, score=caption.score + self.weight * float(value))
                for caption, value in zip(n_best, values, strict=True)
            ]
            results.append(sorted(scored, key=lambda caption: -caption.score)[: self.num])
        return results


def check_reranker(settings: Decoding) -> ModelInfo | None:
    """The matcher of ``decoding.rerank``, None if it is empty. Raises the errors of ``describe_model`` and BadModel."""
    return describe_as("matcher", settings.rerank, HINT) if settings.rerank else None


def load_reranker(
    settings: Decoding, compute: Compute, reporter: Reporter = SILENT
) -> tuple[Decoding, Reranker | None]:
    """The settings that generate the candidates, and what re-ranks them; unchanged and None without ``rerank``.

    ``compute`` is that of the captioner. Raises the errors of ``check_reranker`` and of loading the matcher.
    """
    info = check_reranker(settings)
    if info is None:
        return settings, None
    num = settings.num if settings.sample else max(settings.beam, settings.num)
    reranker = Reranker(_load_matcher(info, compute, reporter), settings.rerank_weight, settings.num)
    return replace(settings, num=num), reranker


def _load_matcher(info: ModelInfo, compute: Compute, reporter: Reporter) -> LoadedMatcher | ExportedMatcher:
    if compute.runtime != "onnx":
        from xmodal_cli.inference.matchers import load_matcher

        return load_matcher(info, compute)
    return _exported_matcher(info, reporter)


def _exported_matcher(info: ModelInfo, reporter: Reporter) -> ExportedMatcher:
    from xmodal_cli.inference.exported_matcher import ExportedMatcher
    from xmodal_cli.inference.image_encoders import ON_CPU

    return ExportedMatcher(info, ON_CPU, reporter)


def export_reranker(settings: Decoding, reporter: Reporter) -> None:
    """Export both sides of the matcher of ``rerank``, if there is one and it was not exported. Raises Unavailable."""
    info = check_reranker(settings)
    if info is not None:
        matcher = _exported_matcher(info, reporter)
        matcher.images  # noqa: B018 - exported now
        matcher.embed_texts(["a"])

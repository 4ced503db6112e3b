"""A matcher on onnxruntime, with the functions of a ``LoadedMatcher``, or the matcher with torch if that is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from xmodal_cli.device import Compute
from xmodal_cli.inference import text_encoders
from xmodal_cli.inference.image_encoders import ON_CPU, OnnxMatcher, load_matcher_images, raise_if_refused
from xmodal_cli.inference.models import LoadedModel, ModelInfo
from xmodal_cli.inference.runtime import load_on_runtime, needs_torch
from xmodal_cli.reporter import Reporter

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.onnx_text_encoder import OnnxTextEncoder


@dataclass(frozen=True)
class ExportedMatcher(LoadedModel):
    """The exports of a matcher; each side is exported when it is first used, which raises Unavailable if it cannot be.

    Its functions are those of ``LoadedMatcher``.
    """

    reporter: Reporter

    def embed_texts(self, sentences: Sequence[str]) -> np.ndarray:
        """(sentences, embed_dim) float32, in order."""
        return self._texts.embed_texts(sentences)

    def embed_features(self, values: np.ndarray) -> np.ndarray:
        """(images, dim) or (images, cells, dim) features -> (images, embed_dim) float32."""
        return self.images.head.embed_features(values)

    @cached_property
    def images(self) -> OnnxMatcher:
        """The image side."""
        return load_matcher_images(self.info, self.reporter)

    @cached_property
    def _texts(self) -> OnnxTextEncoder:
        found = text_encoders.find(self.info.fingerprint) or text_encoders.export(self.info, self.reporter)
        if found is None:
            raise needs_torch(f"the text encoder of {self.name} could not be exported to ONNX")
        raise_if_refused(self.name, found.folder.export_error)
        return found


def open_matcher(
    info: ModelInfo, compute: Compute, num_images: int, reporter: Reporter
) -> LoadedMatcher | ExportedMatcher:
    """The matcher ``info`` for about ``num_images`` images.

    A model whose image side cannot be exported runs with torch, unless onnxruntime is requested. Raises the errors of
    ``choose_runtime``, ``load_matcher_images`` and ``load_matcher``.
    """

    def with_onnx() -> LoadedMatcher | ExportedMatcher:
        exported = ExportedMatcher(info, ON_CPU, reporter)
        exported.images  # noqa: B018 - exported now
        return exported

    def with_torch() -> LoadedMatcher | ExportedMatcher:
        from xmodal_cli.inference.matchers import load_matcher

        return load_matcher(info, compute)

    return load_on_runtime(compute, num_images, reporter, with_onnx, with_torch)

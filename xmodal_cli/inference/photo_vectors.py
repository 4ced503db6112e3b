"""The image side of a matcher on the runtime that is requested, or faster: photos to vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xmodal_cli.device import Compute
from xmodal_cli.errors import StorageError, Unavailable
from xmodal_cli.inference.image_encoders import ON_CPU, load_matcher_images
from xmodal_cli.inference.runtime import choose_runtime, has_torch
from xmodal_cli.reporter import Reporter

if TYPE_CHECKING:
    from xmodal_cli.data.images import ImageReader
    from xmodal_cli.inference.image_encoders import OnnxMatcher
    from xmodal_cli.inference.image_inputs import InputVectors
    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import ModelInfo


@dataclass(frozen=True)
class ImageEncoder:
    """A matcher as an export, or else ``loaded`` with torch."""

    exported: OnnxMatcher | None
    loaded: LoadedMatcher | None

    @property
    def runtime(self) -> str:
        """The library, the device and the precision, for messages."""
        if self.loaded is None:
            return "onnxruntime, cpu, fp32"
        return f"torch, {self.loaded.compute.device}, {self.loaded.compute.precision}"

    def vectors(self, reader: ImageReader | None = None) -> InputVectors:
        """A function that encodes images, in order; see ``encoding.image_vectors``."""
        from functools import partial

        from xmodal_cli.inference.encoding import file_vectors, image_vectors

        if self.exported is None:
            assert self.loaded is not None
            return image_vectors(self.loaded, reader)
        return partial(file_vectors, self.exported.backbone, self.exported.head.embed_features, ON_CPU, reader=reader)


def open_image_encoder(info: ModelInfo, compute: Compute, num_images: int, reporter: Reporter) -> ImageEncoder:
    """The image side of the matcher ``info`` for about ``num_images`` images.

    A model that cannot be exported, or whose export cannot be written, runs with torch, unless onnxruntime is
    requested. Raises the errors of ``choose_runtime``, ``load_matcher_images`` and ``load_matcher``.
    """
    from xmodal_cli.inference.matchers import load_matcher

    if choose_runtime(compute, num_images) == "onnx":
        try:
            return ImageEncoder(load_matcher_images(info, reporter), None)
        except (Unavailable, StorageError) as error:
            if compute.runtime == "onnx" or not has_torch():
                raise
            reporter.info(f"{error.message}; torch is used instead")
    return ImageEncoder(None, load_matcher(info, compute))

"""Captions of indexed photos, by the default captioner, with alternatives of the beam. For one thread."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.captioning.attention_maps import is_square, square_maps
from xmodal_cli.data.images import ImageReader
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    from xmodal_cli.inference.caption_types import Caption, CaptionGenerator

NUM_CAPTIONS = 3


class CaptionService:
    """Loads the captioner when the first caption is needed."""

    def __init__(self, runtime: str) -> None:
        self._runtime, self._reader = runtime, ImageReader()

    def caption(self, path: Path) -> dict[str, Any]:
        """The captions of ``xmodal caption``, and its warnings; words have attention maps if the captioner has them.

        Raises BadData, MissingData, UnknownName, BadModel.
        """
        self._reader.defects.clear()
        ((_, found),) = self._generator.captions([path])
        if isinstance(found, Unreadable):
            raise BadData(f"{path}: {found.reason}", found.hint)
        captions = [_to_json(caption, self._generator.views) for caption in found]
        warnings = [*self._generator.warnings, *dict.fromkeys(defect.reason for defect in self._reader.defects)]
        return {"model": self._generator.name, "captions": captions, "warnings": warnings}

    @cached_property
    def _generator(self) -> CaptionGenerator:
        from xmodal_cli.inference.image_captioning import load_generator

        settings = (f"decoding.num={NUM_CAPTIONS}",)
        compute = Compute("cpu", "fp32", self._runtime)
        models = (default_model("captioner"),)
        try:  # a folder requests attention weights; nothing is written to it
            with_maps = CaptionRequest(models, settings, attention=Path(), compute=compute)
            return load_generator(with_maps, self._reader)
        except ConfigError:  # the captioner has no maps
            return load_generator(CaptionRequest(models, settings, compute=compute), self._reader)


def _to_json(caption: Caption, views: int) -> dict[str, Any]:
    """A caption with its ``words`` and, per word, the rows of a square map with weights in [0, 1]."""
    record: dict[str, Any] = {"text": caption.text, "score": caption.score, "words": caption.words}
    weights = caption.attention
    if weights is not None and caption.boxes is None and is_square(weights.shape[1], views):
        record["attention"] = square_maps(weights, views).astype(float).round(3).tolist()
    return record

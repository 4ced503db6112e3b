"""Captions of indexed photos, by the default captioner, with alternatives of the beam. For one thread."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.data.images import ImageReader
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    from xmodal_cli.inference.caption_types import CaptionGenerator

NUM_CAPTIONS = 3


class CaptionService:
    """Loads the captioner when the first caption is needed."""

    def __init__(self, runtime: str) -> None:
        self._runtime, self._reader = runtime, ImageReader()

    def caption(self, path: Path) -> dict[str, Any]:
        """The captions of ``xmodal caption``, and its warnings. Raises BadData, MissingData, UnknownName, BadModel."""
        self._reader.defects.clear()
        ((_, found),) = self._generator.captions([path])
        if isinstance(found, Unreadable):
            raise BadData(f"{path}: {found.reason}", found.hint)
        captions = [{"text": caption.text, "score": caption.score} for caption in found]
        warnings = [*self._generator.warnings, *dict.fromkeys(defect.reason for defect in self._reader.defects)]
        return {"model": self._generator.name, "captions": captions, "warnings": warnings}

    @cached_property
    def _generator(self) -> CaptionGenerator:
        from xmodal_cli.inference.image_captioning import load_generator

        settings = (f"decoding.num={NUM_CAPTIONS}",)
        compute = Compute("cpu", "fp32", self._runtime)
        return load_generator(CaptionRequest((default_model("captioner"),), settings, compute=compute), self._reader)

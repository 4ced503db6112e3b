"""Captions of indexed photos by the captioners of this machine, with alternatives of the beam. For one thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.captioning.attention_maps import is_square, square_maps
from xmodal_cli.data.images import ImageReader
from xmodal_cli.device import Compute
from xmodal_cli.errors import INSTALL_ALL, BadData, ConfigError, Unavailable, missing_package
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.serve.captioner_names import ListedCaptioner, captioner_state, list_captioners, resolve_captioner
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    from xmodal_cli.inference.caption_types import Caption, CaptionGenerator

NUM_CAPTIONS = 3
MAX_LOADED = 2  # captioners; one with its backbone takes 0.1 to 1 GB


class CaptionService:
    """Loads a captioner when its first caption is needed, and again when its file has changed."""

    def __init__(self, runtime: str) -> None:
        self._runtime, self._reader = runtime, ImageReader()
        self._generators: dict[tuple[str, object], CaptionGenerator] = {}

    def captioners(self) -> dict[str, list[ListedCaptioner]]:
        """The captioners of this machine, the default one first. Raises BadData."""
        return {"captioners": list_captioners()}

    def caption(self, path: Path, name: str | None = None) -> dict[str, Any]:
        """The captions of ``xmodal caption``, and its warnings; words have attention maps if the captioner has them.

        ``name`` is one of ``captioners``, the default is the first. Raises BadData, MissingData, UnknownName, BadModel,
        Unavailable.
        """
        generator = self._generator(resolve_captioner(name))
        self._reader.defects.clear()
        ((_, found),) = generator.captions([path])
        if isinstance(found, Unreadable):
            raise BadData(f"{path}: {found.reason}", found.hint)
        captions = [_to_json(caption, generator.views) for caption in found]
        warnings = [*generator.warnings, *dict.fromkeys(defect.reason for defect in self._reader.defects)]
        return {"model": generator.name, "captions": captions, "warnings": warnings}

    def _generator(self, what: str) -> CaptionGenerator:
        key = (what, captioner_state(what))
        generator = self._generators.pop(key, None)
        if generator is None:
            self._generators = {k: kept for k, kept in self._generators.items() if k[0] != what}
            while len(self._generators) >= MAX_LOADED:  # before another one is loaded
                del self._generators[next(iter(self._generators))]
            try:
                generator = self._load(what)
            except ModuleNotFoundError as error:
                if not (package := missing_package(error)):
                    raise
                raise Unavailable(f"{what} needs the package {package}, which is not installed", INSTALL_ALL) from error
        self._generators[key] = generator  # the last used one is the last
        return generator

    def _load(self, what: str) -> CaptionGenerator:
        from xmodal_cli.inference.image_captioning import load_generator

        settings = (f"decoding.num={NUM_CAPTIONS}",)
        compute = Compute("cpu", "fp32", self._runtime)
        try:  # a folder requests attention weights; nothing is written to it
            with_maps = CaptionRequest((what,), settings, attention=Path(), compute=compute)
            return load_generator(with_maps, self._reader)
        except ConfigError:  # the captioner has no maps
            return load_generator(CaptionRequest((what,), settings, compute=compute), self._reader)


def _to_json(caption: Caption, views: int) -> dict[str, Any]:
    """A caption with its ``words`` and, per word, the rows of a square map with weights in [0, 1]."""
    record: dict[str, Any] = {"text": caption.text, "score": caption.score, "words": caption.words}
    weights = caption.attention
    if weights is not None and caption.boxes is None and is_square(weights.shape[1], views):
        record["attention"] = square_maps(weights, views).astype(float).round(3).tolist()
    return record

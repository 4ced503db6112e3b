"""The types of caption generation: request, caption, caption generator, and the decoding settings of a request."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xmodal_cli.captioning.decoding import check_decoding
from xmodal_cli.config import Config, with_settings
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.types import Decoding, Unreadable

if TYPE_CHECKING:
    import numpy as np

    from xmodal_cli.inference.image_inputs import ImageInput


@dataclass(frozen=True)
class CaptionRequest:
    """Caption settings. Several ``models`` are an ensemble; without ``models`` the default captioner is used.

    ``settings`` are ``decoding.key=value`` and override the settings that the first model was trained with. ``tags``
    are the words of a prompt, or ``auto``, ``auto:TAGGER`` or ``none``; without them tags are those of the training of
    the first model. ``nearest`` retrieves captions of the training set with a matcher instead: all of them are scored,
    or those of the ``nearest_images`` nearest images. ``attention`` is a folder for attention maps; ``write`` saves
    captions beside the photos; ``force`` overwrites files.
    """

    models: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    nearest: bool = False
    attention: Path | None = None
    write: bool = False
    force: bool = False
    compute: Compute = Compute()
    nearest_images: int | None = None


@dataclass(frozen=True)
class Caption:
    """A caption, its score, its words, and the ``tags`` before it.

    If requested, their attention weights (words, cells) or (words, regions). ``boxes`` (regions, 4) are the corners of
    the regions relative to the sides of the image, equal for padding.
    """

    text: str
    score: float
    words: list[str]
    attention: np.ndarray | None = None
    tags: tuple[str, ...] = ()
    boxes: np.ndarray | None = None


CaptionResults = Iterator[tuple[Path, "list[Caption] | Unreadable"]]


class GenerateCaptions(Protocol):
    """Generates captions of images."""

    def __call__(self, images: Sequence[ImageInput], first: int = 0) -> CaptionResults:
        """Yield (path, captions, best first) or (path, Unreadable) for each image, in order.

        ``first`` is the index of the first image in the job, on which the random numbers of samples depend.
        """
        ...


@dataclass(frozen=True)
class CaptionGenerator:
    """``captions`` of images by the models ``name``, on the library ``runtime``.

    ``views`` is the number of views of an image in the attention weights, one after the other. ``warnings`` are to be
    reported before the first image.
    """

    name: str
    captions: GenerateCaptions
    views: int = 1
    warnings: tuple[str, ...] = ()
    runtime: str = "torch"


def decoding_settings(values: Mapping[str, object]) -> list[str]:
    """Values of decoding settings as ``decoding.key=value``."""
    return [f"decoding.{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in values.items()]


def override_decoding(defaults: Decoding, settings: Sequence[str]) -> Decoding:
    """The decoding settings of a model with ``decoding.key=value`` overrides.

    The beam size is increased to ``num`` unless it is set. Raises ConfigError, UnknownName.
    """
    for setting in settings:
        if not setting.strip().startswith("decoding."):
            raise ConfigError(
                f"--set {setting} is not a decoding setting",
                "--set accepts only decoding.KEY=VALUE here, for example --set decoding.length_penalty=0.7",
            )
    overridden = with_settings(Config(decoding=defaults), settings).decoding
    has_beam = any(setting.partition("=")[0].strip() == "decoding.beam" for setting in settings)
    if overridden.num > overridden.beam and not has_beam:
        overridden = replace(
            overridden, beam=overridden.num_beam_groups * math.ceil(overridden.num / overridden.num_beam_groups)
        )
    check_decoding(overridden)
    return overridden

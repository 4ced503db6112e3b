"""The records of caption generation: the request, the captions, and the protocol of a generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.captioning.decoding import check_settings
from xmodal_cli.config import Config, with_settings
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.types import Decoding, Unreadable

if TYPE_CHECKING:
    from torch import Tensor

    from xmodal_cli.inference.image_inputs import ImageInput


@dataclass(frozen=True)
class CaptionRequest:
    """Who speaks and how. Several ``models`` are an ensemble; none is the default captioner.

    ``settings`` are ``decoding.key=value`` on top of what the first model was trained with; ``tags`` are words that
    the caption is to go on from. ``nearest`` takes captions of training images instead, by a matcher.
    ``attention`` is a folder for maps of what each word looked at; ``write`` puts captions beside the photos;
    ``force`` allows both to write over what is there.
    """

    models: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    nearest: bool = False
    attention: Path | None = None
    write: bool = False
    force: bool = False
    compute: Compute = Compute()


@dataclass(frozen=True)
class Caption:
    """A sentence, its score, its words, and where asked for what each looked at, (words, cells)."""

    text: str
    score: float
    words: list[str]
    attention: Tensor | None = None


Answers = Iterator[tuple[Path, "list[Caption] | Unreadable"]]


@dataclass(frozen=True)
class CaptionGenerator:
    """``captions`` gives for each path, in order, its captions, best first, or Unreadable.

    ``views`` is how many views of a photo the attention of its captions covers, one after the other.
    """

    name: str
    captions: Callable[[Sequence[ImageInput]], Answers]
    views: int = 1


def decoding(usual: Decoding, settings: Sequence[str]) -> Decoding:
    """``decoding.key=value`` settings on top of how a model usually writes.

    A beam that nobody asked for is made wide enough for the captions that are wanted. Raises ConfigError, UnknownName.
    """
    for setting in settings:
        if not setting.strip().startswith("decoding."):
            raise ConfigError(
                f"--set {setting} says nothing about how captions are written",
                "only decoding.key=value counts here, for example --set decoding.length_penalty=0.7",
            )
    chosen = with_settings(Config(decoding=usual), settings).decoding
    asked = any(setting.partition("=")[0].strip() == "decoding.beam" for setting in settings)
    if chosen.num > chosen.beam and not asked:
        chosen = replace(chosen, beam=chosen.groups * math.ceil(chosen.num / chosen.groups))
    check_settings(chosen)
    return chosen

"""The text towers of open_clip, named like the image backbones: ``open_clip/ARCH/TAG`` or ``open_clip/ARCH@FILE``."""

from __future__ import annotations

from xmodal_cli.errors import ConfigError
from xmodal_cli.types import TextBackbone, TextMeta

PREFIX = "open_clip/"


def known() -> list[str]:
    """The pattern of the names of this family."""
    return ["open_clip/ARCH/TAG"]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name.startswith(PREFIX)


def build(name: str, tuned_layers: int = 0) -> TextBackbone:
    """The tower, with one vector per sentence. Raises UnknownName, MissingData, DownloadError, BadData."""
    from xmodal_cli.backbones.image.open_clip import read_matcher_meta, text_tower
    from xmodal_cli.backbones.text._sentence import SentenceState

    if tuned_layers:
        raise ConfigError(f"{name} does not support text.tuned_layers", "train all layers: set text.tuned_layers to 0")
    tower, tokenizer = text_tower(name)
    meta, _ = read_matcher_meta(name)
    return TextBackbone(SentenceState(tower), tokenizer, TextMeta(name, meta.fingerprint, "sentence", meta.dim))

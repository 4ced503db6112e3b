"""An estimate of the memory that decoding needs, so that a huge beam is refused before it is tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xmodal_cli.errors import ConfigError
from xmodal_cli.memory import available_bytes, format_bytes
from xmodal_cli.types import Decoding

FLOAT = 4  # bytes
SCORE_COPIES = 4  # (rows, vocab) arrays at once: logits, log-probabilities, processed ones, totals
STATE_COPIES = 2  # a state and its reordered copy
SHARE = 0.5  # of the available memory that a batch of images may need


def image_bytes(settings: Decoding, architectures: Sequence[Mapping[str, Any]]) -> int:
    """The memory for one image: scores of the next token, and the states of all rows and layers of all captioners.

    ``architectures`` are those of model headers, with ``vocab_size``, ``embed_dim`` and ``args``.
    """
    rows = settings.num if settings.sample else settings.beam
    floats = 0
    for architecture in architectures:
        layers = int(architecture.get("args", {}).get("num_layers", 1))
        state = 2 * layers * int(architecture.get("embed_dim", 0)) * (settings.max_length + 1)  # keys and values
        floats += SCORE_COPIES * int(architecture.get("vocab_size", 0)) + STATE_COPIES * state
    return FLOAT * rows * floats


def check_decoding_memory(settings: Decoding, architectures: Sequence[Mapping[str, Any]], device: str = "cpu") -> None:
    """Raise ConfigError if the captions of one image do not fit in the memory that is available."""
    available = None if device.startswith("cuda") else available_bytes()
    needed = image_bytes(settings, architectures)
    if available is None or needed <= available:
        return
    name, rows = ("num", settings.num) if settings.sample else ("beam", settings.beam)
    fits = max(1, rows * available // needed // 2)
    hint = f"use a smaller one, for example --{name} {fits:d}" if name == "beam" else f"use --num {fits:d} or less"
    if name == "beam" and settings.num > fits:
        hint += f" --num {fits:d}"
    raise ConfigError(
        f"decoding.{name}={rows:,} needs about {format_bytes(needed)} per image, and "
        f"{format_bytes(available)} are available",
        hint,
    )


def images_at_once(settings: Decoding, architectures: Sequence[Mapping[str, Any]], most: int, device: str) -> int:
    """How many images fit in a batch, from 1 to ``most``."""
    available = None if device.startswith("cuda") else available_bytes()
    if available is None:
        return most
    return max(1, min(most, int(SHARE * available) // max(1, image_bytes(settings, architectures))))

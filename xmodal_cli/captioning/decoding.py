"""Image features to token sequences: the entry point to beam search, diverse beam search and sampling.

The caller puts the captioner in evaluation mode, and under autocast if it is wanted. A tokenizer decodes the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from xmodal_cli.captioning.beam import beam_search
from xmodal_cli.captioning.prefill import prefill
from xmodal_cli.captioning.sampling import sample
from xmodal_cli.errors import ConfigError
from xmodal_cli.settings import check_settings
from xmodal_cli.types import Captioner, Decoding, Hypothesis, SpecialTokens


@torch.no_grad()
def decode(
    captioner: Captioner,
    image_features: Any,
    special_tokens: SpecialTokens,
    settings: Decoding,
    prompt: Sequence[int] = (),
    attention: bool = False,
    first: int = 0,
) -> list[list[Hypothesis]]:
    """The n-best captions of each image, best first: ``settings.num``, or at least one if the search found fewer.

    ``image_features`` is the argument of ``captioner.start``, (images, [cells,] dim). ``prompt`` is fed after BOS; it
    is not part of the captions, of their lengths or of ``no_repeat``. ``attention`` returns the attention weights of
    each token. ``first`` is the index of the first image of the batch in the job; the random numbers of an image
    depend on its index in the job and the seed.
    Raises ConfigError for invalid settings, BadModel if the model outputs NaN.
    """
    check_settings(settings)
    prefilled = prefill(captioner, image_features, special_tokens, prompt)
    if not len(prefilled[0]):
        return []
    if settings.sample:
        return sample(captioner, prefilled, special_tokens, settings, attention, first)
    return beam_search(captioner, prefilled, special_tokens, settings, attention)


MIN_VALUES = {
    **dict.fromkeys(("beam", "num", "max_length", "groups"), 1),
    **dict.fromkeys(("min_length", "length_penalty", "no_repeat", "diversity", "top_k", "seed"), 0),
}


def check_settings(settings: Decoding) -> None:
    """Raises ConfigError, with a hint, for values out of range and values that contradict each other."""
    s = settings
    for name, minimum in MIN_VALUES.items():
        _require(getattr(s, name) >= minimum, s, name, f"at least {minimum}")
    _require(s.min_length <= s.max_length, s, "min_length", f"at most max_length, {s.max_length}")
    if s.sample:
        _require(s.temperature > 0, s, "temperature", "above 0; use a beam size of 1 for greedy decoding")
        _require(0 < s.top_p <= 1, s, "top_p", "above 0 and at most 1")
        _require(s.groups == 1, s, "groups", "1 with sampling")
    else:
        _require(s.num <= s.beam, s, "num", f"at most the beam size, {s.beam}; or increase decoding.beam")
        _require(s.beam % s.groups == 0, s, "groups", f"a divisor of the beam size, {s.beam}")


def _require(condition: bool, settings: Decoding, name: str, requirement: str) -> None:
    if not condition:
        raise ConfigError(f"invalid decoding.{name}={getattr(settings, name)}", f"it must be {requirement}")

"""Features in, sentences out: the one entry to beam search, diverse beams and sampling.

The captioner is used as it is: put it in evaluation mode, and under autocast where that is wanted, before. What comes
back are tokens; a tokenizer makes words of them.
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
    """For each image ``settings.num`` captions, best first; fewer where the search came upon fewer, never none.

    ``image_features`` is what ``captioner.start`` takes, (images, [cells,] dim). ``prompt`` is fed after the start
    token and is no part of the captions, of their lengths or of ``no_repeat_ngram_size``. ``attention`` keeps what each
    word looked at. ``first`` is the place of the batch's first image in the whole job: with the seed it decides an
    image's random numbers.
    Raises ConfigError for settings that contradict each other, BadModel for a model of NaNs.
    """
    check(settings)
    prefilled = prefill(captioner, image_features, special_tokens, prompt)
    if not len(prefilled[0]):
        return []
    if settings.sample:
        return sample(captioner, prefilled, special_tokens, settings, attention, first)
    return beam_search(captioner, prefilled, special_tokens, settings, attention)


def check(settings: Decoding) -> None:
    """Raises ConfigError, with a hint, for values outside their bounds and for settings that contradict each other."""
    check_settings(settings, "decoding.")
    s = settings
    _must(s.min_length <= s.max_length, f"decoding.min_length is {s.min_length}", f"at most max_length, {s.max_length}")
    if s.sample:
        _must(
            s.num_beam_groups == 1,
            f"decoding.num_beam_groups is {s.num_beam_groups}, and samples are drawn",
            "1: samples need no groups",
        )
    else:
        _must(s.num <= s.beam, f"decoding.num is {s.num}", f"at most the beam, {s.beam}; or take a wider beam")
        _must(
            s.beam % s.num_beam_groups == 0,
            f"decoding.num_beam_groups is {s.num_beam_groups}",
            f"a divisor of the beam, {s.beam}",
        )


def _must(holds: bool, what: str, hint: str) -> None:
    if not holds:
        raise ConfigError(f"{what}, which cannot be", f"it must be {hint}")

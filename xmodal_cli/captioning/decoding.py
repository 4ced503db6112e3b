"""Image features to token sequences: the entry point to beam search, diverse beam search and sampling.

The caller puts the captioner in evaluation mode, and under autocast if it is wanted. A tokenizer decodes the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xmodal_cli.captioning.array_library import library_of
from xmodal_cli.captioning.beam import beam_search
from xmodal_cli.captioning.prefill import first_member, prefill
from xmodal_cli.captioning.sampling import sample
from xmodal_cli.errors import ConfigError
from xmodal_cli.settings import check_settings
from xmodal_cli.types import Captioner, Decoding, Hypothesis, SpecialTokens


def decode(
    captioner: Captioner,
    image_features: Any,
    special_tokens: SpecialTokens,
    settings: Decoding,
    prompt: Sequence[int] | Any = (),
    attention: bool = False,
    first: int = 0,
) -> list[list[Hypothesis]]:
    """The n-best captions of each image, best first: ``settings.num``, or at least one if the search found fewer.

    ``image_features`` is the argument of ``captioner.start``, (images, [cells,] dim). ``prompt``, the same for all
    images or (images, length) int64, is fed after BOS; it is not part of the captions, of their lengths or of
    ``no_repeat_ngram_size``. ``attention`` returns the attention weights of each token. ``first`` is the index of the
    first image of the batch in the job; the random numbers of an image depend on its index in the job and the seed.
    Raises ConfigError for invalid settings, BadModel if the model outputs NaN.
    """
    check_decoding(settings)
    with library_of(first_member(image_features)).no_grad():
        prefilled = prefill(captioner, image_features, special_tokens, prompt)
        if not len(prefilled[0]):
            return []
        if settings.sample:
            return sample(captioner, prefilled, special_tokens, settings, attention, first)
        return beam_search(captioner, prefilled, special_tokens, settings, attention)


def check_decoding(settings: Decoding) -> None:
    """Raises ConfigError, with a hint, for values out of range and values that contradict each other."""
    s = settings
    check_settings(s, "decoding.")
    change_beam = "or change decoding.beam"
    _require(
        s.min_length <= s.max_length, s, "min_length", f"at most {s.max_length}", "or increase decoding.max_length"
    )
    if s.sample:
        _require(s.num_beam_groups == 1, s, "num_beam_groups", "1 for sampling", "or use beam search")
    else:
        _require(s.num <= s.beam, s, "num", f"at most the beam size, {s.beam}", change_beam)
        _require(
            s.beam % s.num_beam_groups == 0, s, "num_beam_groups", f"a divisor of the beam size, {s.beam}", change_beam
        )


def _require(condition: bool, settings: Decoding, name: str, requirement: str, alternative: str) -> None:
    if not condition:
        value = getattr(settings, name)
        raise ConfigError(f"decoding.{name} must be {requirement}, not {value}", f"change it, {alternative}")

"""The reward of a sampled caption in self-critical training: CIDEr-D against the training references, and BLEU-4.

Both count tokens of the captioner's vocabulary. Document frequencies are those of the training images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from xmodal_cli import catalog
from xmodal_cli.metrics.cider_scorer import CiderScorer


class Rewards:
    """``references``: for each training image its captions as tokens from BOS to EOS."""

    def __init__(
        self, references: Sequence[Sequence[Sequence[int]]], eos: int, count_eos: bool, bleu_weight: float
    ) -> None:
        last = None if count_eos else -1
        self._references = [[list(tokens[1:last]) for tokens in captions] for captions in references]
        self._scorer = CiderScorer(self._references)
        self._eos, self._count_end, self._bleu_weight = eos, count_eos, bleu_weight
        self._bleu = catalog.build("caption_metric", "bleu", {}) if bleu_weight else None

    def __call__(self, images: Tensor, captions: Tensor, lengths: Tensor) -> Tensor:
        """(images,) image positions, (images, num, longest) tokens, (images, num) lengths -> (images, num) float32.

        A length counts the generated tokens, EOS among them if it was generated. Padding is not scored, and a caption
        of length 0 has a reward of 0.
        """
        rows = captions.flatten(0, 1).cpu().numpy()
        generated = lengths.flatten().cpu().numpy()
        image_of_caption = np.repeat(images.numpy(), captions.shape[1])
        words = (rows != self._eos).cumprod(axis=1).sum(axis=1)  # up to the first EOS
        scored = generated if self._count_end else np.minimum(words, generated)
        rewards = self._scorer.scores(image_of_caption, rows, scored)
        if self._bleu is not None:
            rewards = rewards + self._bleu_weight * self._bleu_4(image_of_caption, rows, scored)
        return torch.from_numpy(np.where(generated > 0, rewards, 0)).float().view(captions.shape[:2])

    def _bleu_4(self, image_of_caption: np.ndarray, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        assert self._bleu is not None
        candidates = [[str(t) for t in row[:length]] for row, length in zip(rows, lengths, strict=True)]
        references = [[[str(t) for t in tokens] for tokens in self._references[image]] for image in image_of_caption]
        return np.asarray(self._bleu(candidates, references).per_candidate["bleu_4"])


def generated_lengths(tokens: Tensor, eos: int) -> Tensor:
    """(..., longest) sampled tokens, padded with EOS after the first one -> (...) int64: the generated tokens.

    The first EOS is one of them; a row without EOS was cut.
    """
    is_eos = tokens == eos
    return ((is_eos.cumsum(-1) - is_eos.long()) == 0).sum(-1)

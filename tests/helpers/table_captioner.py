"""A captioner with a table of random probabilities, one row per image and prefix of a caption."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from xmodal_cli.types import CaptionerOutput, SpecialTokens

BOS, EOS, PAD = 0, 1, 2
SPECIAL = SpecialTokens(BOS, EOS, (BOS, PAD))
NUM_CELLS = 4


class TableState:
    def __init__(self, images: Tensor, prefixes: Tensor, attention: Tensor | None = None) -> None:
        self.images, self.prefixes, self.attention = images, prefixes, attention

    def select(self, parents: Tensor) -> TableState:
        index = parents[..., None].expand(-1, -1, self.prefixes.shape[-1])
        return TableState(self.images, self.prefixes.gather(1, index))


class TableCaptioner:
    """``image_features`` are (images, 1), the index of the image. ``eos_bonus`` above 0 makes captions shorter."""

    def __init__(self, vocab_size: int = 7, seed: int = 0, scale: float = 1.5, eos_bonus: float = 0.0) -> None:
        self.vocab_size, self.seed, self.scale, self.eos_bonus = vocab_size, seed, scale, eos_bonus
        self.steps = 0
        self._table: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]] = {}

    def look_up(self, image: int, prefix: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(vocab,) log-probabilities of the token after ``prefix``, BOS included, and (cells,) attention."""
        key = (image, *prefix)
        if key not in self._table:
            rng = np.random.default_rng((self.seed, *key))
            logits = self.scale * rng.standard_normal(self.vocab_size)
            logits[EOS] += self.eos_bonus
            log_probs = torch.tensor(logits).log_softmax(-1).float().numpy()
            self._table[key] = log_probs, rng.random(NUM_CELLS).astype(np.float32)
        return self._table[key]

    def start(self, image_features: Tensor) -> TableState:
        assert image_features.ndim == 2
        return TableState(image_features[:, 0].long(), torch.zeros(len(image_features), 1, 0, dtype=torch.int64))

    def step(self, state: TableState, tokens: Tensor) -> tuple[Tensor, TableState]:
        assert tokens.shape == state.prefixes.shape[:2]
        self.steps += 1
        prefixes = torch.cat((state.prefixes, tokens[..., None]), dim=-1)
        steps = [
            [self.look_up(image, tuple(row)) for row in rows]
            for image, rows in zip(state.images.tolist(), prefixes.tolist(), strict=True)
        ]
        log_probs, attention = (torch.tensor(np.array([[step[n] for step in rows] for rows in steps])) for n in (0, 1))
        return log_probs, TableState(state.images, prefixes, attention)

    def __call__(self, image_features: Tensor, image_of_caption: Tensor, tokens: Tensor) -> CaptionerOutput:
        images = image_features[image_of_caption, 0].long().tolist()
        rows = [
            [self.look_up(image, tuple(row[: n + 1]))[0] for n in range(len(row))]
            for image, row in zip(images, tokens.tolist(), strict=True)
        ]
        return CaptionerOutput(torch.tensor(np.array(rows)))


class EndlessCaptioner(TableCaptioner):
    """Never generates EOS."""

    def look_up(self, image: int, prefix: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        log_probs, attention = super().look_up(image, prefix)
        log_probs = log_probs.copy()
        log_probs[EOS] = -np.inf
        return log_probs, attention


def image_features(*images: int) -> Tensor:
    """(images, 1): the ``image_features`` of these images."""
    return torch.tensor(images, dtype=torch.float32)[:, None]

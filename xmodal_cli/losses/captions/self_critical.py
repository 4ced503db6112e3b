"""Self-critical training: captions with a higher reward than a baseline become more likely.

Rennie et al., arXiv 1612.00563. The reward of a caption is its CIDEr-D (and ``bleu_weight`` times its BLEU-4), less a
baseline: ``greedy``, the reward of the greedy caption, as in the paper; or ``mean``, the mean of the image's other
captions (Luo, arXiv 2003.09971), which needs no extra decoding. Captions are ``drawn`` word by word, as in the paper,
or the ``beam``'s (Cornia et al., arXiv 1912.08226): a model trained on few captions samples
an unlikely word in most sentences, and learns from sampled captions to be short and generic first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BASELINES = ("mean", "greedy")
SOURCES = ("beam", "drawn")


@dataclass(frozen=True)
class SelfCritical:
    """``num_samples`` captions of each image, from ``source``; ``count_eos``: the end counts as a word in CIDEr-D."""

    num_samples: int
    source: str
    baseline: str
    bleu_weight: float
    count_eos: bool

    def __call__(self, log_probs: Tensor, mask: Tensor, advantages: Tensor) -> Tensor:
        """(captions, longest) of the sampled tokens, bool mask, (captions,) advantages -> scalar."""
        weighted = log_probs.float() * mask * advantages[:, None]
        return -weighted.sum() / mask.sum()

    def advantages(self, rewards: Tensor, greedy: Tensor | None = None) -> Tensor:
        """(images, num_samples) rewards, (images,) those of greedy captions -> (images, num_samples)."""
        if greedy is not None:
            return rewards - greedy[:, None]
        others = (rewards.sum(1, keepdim=True) - rewards) / (rewards.shape[1] - 1)
        return rewards - others


def build(
    num_samples: int = 5,
    source: str = "beam",
    baseline: str = "mean",
    bleu_weight: float = 0.0,
    count_eos: bool = True,
) -> SelfCritical:
    """Raises ValueError for an unknown source or baseline, or for one sample where the others' mean is the baseline."""
    if source not in SOURCES:
        raise ValueError(f"source is {' or '.join(SOURCES)}, not {source!r}")
    if baseline not in BASELINES:
        raise ValueError(f"baseline is {' or '.join(BASELINES)}, not {baseline!r}")
    if num_samples < (2 if baseline == "mean" else 1):
        raise ValueError(f"{num_samples} samples are too few for the baseline {baseline!r}")
    return SelfCritical(num_samples, source, baseline, bleu_weight, count_eos)


def gather_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """(captions, longest, vocab) logits, (captions, longest) int64 -> (captions, longest) log-probabilities."""
    return torch.log_softmax(logits.float(), dim=-1).gather(-1, targets[..., None]).squeeze(-1)

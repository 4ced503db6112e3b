"""The loss of stochastic attention: a lower bound of log p(caption | image), and REINFORCE for the sampled cells.

Xu et al., arXiv 1502.03044, section 4.1. ``s`` are the cells sampled at each word of a caption ``y``. The gradient is

    d log p(y | s) + reinforce * (log p(y | s) - b) * d log p(s) + entropy * d H(s)

where ``b`` is a moving average over the batches, ``0.9 * b + 0.1 * log p(y | s)``. For captions that use the expected
weights instead of samples it is ``d log p(y) + entropy * d H(s)``. The first term is the cross-entropy, with its
``label_smoothing`` and ``doubly_stochastic``. All terms are divided by the number of words, or ``per_caption`` by the
number of captions. The value of the loss does not include the REINFORCE term, which has only a gradient.

``reward="word"`` replaces log p(y | s) by its mean over the words of a caption, as the code of the authors does. It
depends less on the length of the caption, so ``b`` reduces the variance more.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from xmodal_cli.losses.captions import cross_entropy
from xmodal_cli.process_sum import sum_over_processes
from xmodal_cli.settings import Bounds, check_argument
from xmodal_cli.types import CaptionerOutput, SampledCells

DECAY = 0.9  # of the moving average
Likelihood = Callable[[CaptionerOutput, Tensor, Tensor], Tensor]
REWARDS = ("caption", "word")
NOT_NEGATIVE = Bounds(min=0)


class VariationalBound(nn.Module):
    """A ``types.CaptionLoss``. ``baseline`` is not a number before the first batch, whose mean it starts from."""

    samples_cells = True  # of the captioners that it trains
    baseline: Tensor  # ()

    def __init__(
        self, likelihood: Likelihood, per_caption: bool, reinforce: float, entropy: float, reward: str
    ) -> None:
        super().__init__()
        self.likelihood, self.per_caption = likelihood, per_caption
        self.reinforce, self.entropy, self.reward = reinforce, entropy, reward
        self.register_buffer("baseline", torch.tensor(torch.nan))

    def forward(self, output: CaptionerOutput, targets: Tensor, mask: Tensor) -> Tensor:
        """See ``types.CaptionLoss``. Raises ValueError for the output of a captioner that does not sample cells."""
        loss, cells = self.likelihood(output, targets, mask), output.sampled_cells
        if cells is None:
            raise ValueError("the captioner does not sample the cells that it attends to")
        attended = mask.flip(1).cumsum(1).flip(1) > 0  # a cell affects its own word and all later ones
        captions = mask.any(1)
        count = sum_over_processes(captions.sum() if self.per_caption else mask.sum())
        surrogate = self._reinforce(self._rewards(output.logits, targets, mask), cells, attended, captions) / count
        entropy = self.entropy * (cells.entropy * attended).sum() / count
        return loss + sum_over_processes(surrogate - surrogate.detach() - entropy)

    def _rewards(self, logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
        """(captions,) log-probabilities of the captions, without gradient."""
        logits = logits.detach().float()
        log_probs = -functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none") * mask
        return log_probs.sum(1) / (mask.sum(1).clamp(min=1) if self.reward == "word" else 1)

    def _reinforce(self, rewards: Tensor, cells: SampledCells, attended: Tensor, captions: Tensor) -> Tensor:
        """The scalar whose gradient is the REINFORCE term; then the baseline is updated.

        The baseline has the rewards of all processes; ``captions`` (captions,) bool is False where there is none.
        """
        sampled = cells.is_sampled & captions
        total, count = sum_over_processes(torch.stack(((rewards * sampled).sum(), sampled.sum().float())))
        if not count:
            return rewards.new_zeros(())
        mean = total / count
        self.baseline = torch.where(self.baseline.isnan(), mean, self.baseline)
        log_probs = (cells.log_probs * attended)[sampled].sum(1)
        surrogate = -self.reinforce * ((rewards[sampled] - self.baseline) * log_probs).sum()
        self.baseline = DECAY * self.baseline + (1 - DECAY) * mean
        return surrogate


def build(
    label_smoothing: float = 0.0,
    doubly_stochastic: float = 0.0,
    per_caption: bool = False,
    reinforce: float = 1.0,
    entropy: float = 0.01,
    reward: str = "caption",
) -> VariationalBound:
    """``reinforce`` and ``entropy`` are the weights of their terms. Raises ValueError for values out of bounds."""
    check_argument("reinforce", reinforce, NOT_NEGATIVE)
    check_argument("entropy", entropy, NOT_NEGATIVE)
    check_argument("reward", reward, Bounds(choices=REWARDS))
    likelihood = cross_entropy.build(label_smoothing, doubly_stochastic, per_caption)
    return VariationalBound(likelihood, per_caption, reinforce, entropy, reward)

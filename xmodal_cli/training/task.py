"""What a training loop optimizes and evaluates: the record that an objective gives to the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from xmodal_cli.training.batches import Batch, EpochBatches

BatchLoss = Callable[[Batch], Tensor]  # -> scalar


@dataclass(frozen=True)
class Task:
    """A model with its batches, its loss and its validation metrics.

    ``average``: moving average of the weights of ``model``; where there is one, it is what ``evaluate`` and
    ``save_best`` use.
    """

    model: nn.Module
    batches: EpochBatches
    batch_loss: BatchLoss
    evaluate: Callable[[], dict[str, float]]  # val metrics, ``score`` among them
    score: str  # the metric that selects the best model
    save_best: Callable[[dict[str, float]], None]  # writes the model file
    average: AveragedModel | None = None
    digits: int = 1  # decimals of the score in messages
    lower_is_better: bool = False

    @property
    def models(self) -> dict[str, nn.Module]:
        """The modules that a checkpoint holds, by name."""
        return {"model": self.model} | ({"average": self.average} if self.average is not None else {})

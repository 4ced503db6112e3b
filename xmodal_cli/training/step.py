"""One training step: learning rate, forward, backward, gradient clipping, optimizer, moving average."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn, optim

from xmodal_cli.device import Compute
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.task import Task


class TrainStep:
    """Updates the weights of ``task.model`` by one batch.

    ``lr_factor`` maps the step (0-based) to the factor on the optimizer's learning rate; a parameter group's
    ``lr_scale`` multiplies it too. ``grad_clip`` is the largest gradient norm, 0 for no clipping. ``compute`` is
    resolved; fp16 uses a gradient scaler. ``l2_penalty`` times the sum of squares of all trained weights is part of the
    loss, as ``decay_c`` in Kiros' visual-semantic-embedding: its gradient is clipped with the rest, unlike
    weight decay.
    """

    def __init__(
        self,
        task: Task,
        optimizer: optim.Optimizer,
        lr_factor: Callable[[int], float],
        grad_clip: float,
        compute: Compute,
        l2_penalty: float = 0.0,
    ) -> None:
        self.task, self.optimizer = task, optimizer
        self.scaler = torch.amp.GradScaler(compute.device.partition(":")[0], enabled=compute.precision == "fp16")
        self._lr_factor, self._max_norm = lr_factor, grad_clip or float("inf")
        self._compute, self._l2_penalty = compute, l2_penalty

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, float, Tensor]:
        """The loss () before the update, the learning rate, and the gradient norm () before clipping."""
        lr = self._set_lr(step)
        with self._compute.autocast():
            loss = self.task.batch_loss(batch)
        if self._l2_penalty:
            loss = loss + self._l2_penalty * self._sum_of_squares()
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.task.model.parameters(), self._max_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.task.average is not None:
            self.task.average.update_parameters(self.task.model)
        return loss, lr, grad_norm

    def _sum_of_squares(self) -> Tensor:
        """(), float32, of all weights that are trained."""
        squares = [weight.float().square().sum() for weight in self.task.model.parameters() if weight.requires_grad]
        return torch.stack(squares).sum()

    def _set_lr(self, step: int) -> float:
        lr: float = self.optimizer.defaults["lr"] * self._lr_factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        return lr

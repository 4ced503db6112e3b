"""A toy task: a few hundred captions whose images can be learned, and the parts of the training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xmodal_cli.config import TrainingConfig
from xmodal_cli.device import Compute
from xmodal_cli.models.token_batches import padded
from xmodal_cli.paths import STATE_FILE
from xmodal_cli.reporter import SILENT
from xmodal_cli.training.batches import Batch, BatchPlan, CaptionBatches
from xmodal_cli.training.checkpoint import LoopState, load_state
from xmodal_cli.training.log import RunLog, rewind_log
from xmodal_cli.training.loop import fit
from xmodal_cli.training.optimizer import build_optimizer, group_parameters
from xmodal_cli.training.step import TrainStep
from xmodal_cli.training.task import Task

CONFIG = TrainingConfig(epochs=3, log_every=2)


class Regression(nn.Module):
    """Predicts a caption's first token from its image; dropout makes it use random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 1))

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features).squeeze(-1)


@dataclass
class Toy:
    """One run in ``folder``. ``batch_loss`` and ``scores`` replace the true ones where given; ``saved`` holds the
    metrics of every best model."""

    folder: Path
    optimizer: str = "adam"
    batch_loss: Callable[[Batch, Tensor], Tensor] | None = None
    scores: list[float] = field(default_factory=list)
    ema: float = 0.0
    lr_scale: Callable[[str], float] | None = None
    steps: list[tuple[list[Tensor], list[float]]] = field(
        default_factory=list
    )  # weights and learning rates before each step
    saved: list[dict[str, float]] = field(default_factory=list)

    def train(
        self,
        lr_factor: Callable[[int], float] = lambda step: 1.0,
        grad_clip: float = 2.0,
        lower_is_better: bool = False,
        **training: object,
    ) -> LoopState:
        """Train, or resume from the checkpoint in ``folder``; ``training`` overrides ``CONFIG``."""
        torch.manual_seed(7)
        self.model = Regression()
        follow = get_ema_multi_avg_fn(self.ema)
        self.average = AveragedModel(self.model, multi_avg_fn=follow) if self.ema else None
        self.groups = group_parameters(self.model, self.lr_scale or (lambda name: 1.0), 0.01)
        self.optimizer_used = optimizer = build_optimizer(self.groups, self.optimizer, 0.01, 0.01)
        state, task = LoopState(), replace(self._task(), lower_is_better=lower_is_better)
        if (self.folder / "last" / STATE_FILE).exists():
            state = load_state(self.folder / "last", task.models, optimizer)
        rewind_log(self.folder, state.step if state.epoch or state.history else -1)
        train_step = TrainStep(task, optimizer, lr_factor, grad_clip, Compute("cpu", "fp32"))
        config = replace(CONFIG, **training)
        with RunLog(self.folder, tensorboard=False) as log:
            return fit(train_step, config, state, self.folder, SILENT, log)

    def _task(self) -> Task:
        def loss(batch: Batch) -> Tensor:
            weights = [value.detach().clone() for value in self.model.parameters()]
            self.steps.append((weights, [group["lr"] for group in self.optimizer_used.param_groups]))
            prediction = self.model(batch.image_features)
            value = (prediction[batch.positives.int().argmax(0)] - batch.tokens[:, 0]).square().mean()
            return value if self.batch_loss is None else self.batch_loss(batch, value)

        return Task(self.model, make_batches(), loss, self._evaluate, "score", self.saved.append, self.average)

    def _evaluate(self) -> dict[str, float]:
        if self.scores:
            return {"score": self.scores.pop(0)}
        with torch.inference_mode():
            evaluated = self.model if self.average is None else self.average
            return {"score": -evaluated(torch.eye(6)).square().sum().item()}


def make_batches(batch_size: int = 8, seed: int = 0, num_images: int = 20) -> CaptionBatches:
    """Captions of 1 to 9 tokens, 1 to 4 per image, each token the image's position plus 1."""
    rng = np.random.default_rng(0)
    image_of_caption = np.repeat(np.arange(num_images), rng.integers(1, 5, num_images))
    lengths = torch.from_numpy(rng.integers(1, 10, len(image_of_caption)))
    tokens = torch.zeros(len(image_of_caption), 9, dtype=torch.int64)
    for row, length in enumerate(lengths.tolist()):
        tokens[row, :length] = int(image_of_caption[row]) + 1
    features = torch.from_numpy(rng.normal(size=(num_images, 6))).float()
    return CaptionBatches(
        features, padded(tokens), BatchPlan(lengths, torch.from_numpy(image_of_caption), batch_size, seed)
    )


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Toy]:
    """Creates runs: ``toy("name", optimizer="adamw")``."""
    return lambda name="run", **settings: Toy(tmp_path / name, **settings)


@pytest.fixture(name="make_batches")
def make_batches_fixture() -> Callable[..., CaptionBatches]:
    return make_batches

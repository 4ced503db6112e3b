"""The objectives: what a training run optimizes, by the kind of model."""

from __future__ import annotations

from typing import Protocol

from torch import nn, optim

from xmodal_cli.config import Config
from xmodal_cli.errors import UnknownName
from xmodal_cli.trainers.captioner import CaptionerObjective
from xmodal_cli.trainers.job import Job
from xmodal_cli.trainers.matcher import MatcherObjective
from xmodal_cli.trainers.tagger import TaggerObjective
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.task import Task


class Objective(Protocol):
    """Builds what the training loop needs for one kind of model."""

    def check(self, config: Config) -> None:
        """Fail early on settings that cannot be trained, before data is read. Raises ConfigError, UnknownName."""
        ...

    def build_model(self, job: Job) -> nn.Module:
        """Everything that is trained, the model as ``model`` and the losses with weights of their own, on the CPU.

        The weights are random, except those of towers and of a pretrained language model. Raises ConfigError.
        """
        ...

    def build_optimizer(self, config: Config, model: nn.Module) -> optim.Adam | optim.AdamW:
        """The optimizer over all parameters that are not frozen; pretrained parts have a ``lr_scale`` of their own."""
        ...

    def build_task(self, job: Job, state: LoopState) -> Task:
        """The initialized model on the device of ``job.compute`` with its batches, loss and evaluation.

        ``state`` is the one that the loop advances: losses that depend on the epoch read it. Raises ConfigError,
        BadModel.
        """
        ...


OBJECTIVES: dict[str, Objective] = {
    "matcher": MatcherObjective(),
    "captioner": CaptionerObjective(),
    "tagger": TaggerObjective(),
}


def find_objective(config: Config) -> Objective:
    """The objective of ``config.kind``. Raises UnknownName."""
    if config.kind not in OBJECTIVES:
        raise UnknownName.of("kind of model", config.kind, OBJECTIVES)
    return OBJECTIVES[config.kind]

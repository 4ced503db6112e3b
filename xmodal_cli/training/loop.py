"""The training loop, written once for every kind of model. It knows batches, a loss, a score; nothing of pictures.

An epoch is the unit of resuming: it seeds its own random numbers, so an epoch that is run again after a kill takes
exactly the steps of the one that was interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel

from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData
from xmodal_cli.reporter import ProgressTask, Reporter
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.checkpoint import LoopState, save_state, seed_epoch
from xmodal_cli.training.log import RunLog


class EpochBatches(Protocol):
    """Batches that depend on the epoch's number alone."""

    def __len__(self) -> int: ...
    def epoch(self, number: int) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Task:
    """What is trained: the parts that a recipe puts together."""

    model: nn.Module
    batches: EpochBatches
    batch_loss: Callable[[Batch], Tensor]  # -> scalar
    evaluate: Callable[[], dict[str, float]]  # val metrics, ``score`` among them
    score: str  # the metric that decides, larger is better
    save_best: Callable[[dict[str, float]], None]  # write the model file
    average: AveragedModel | None = None  # follows the model's weights; then it is what ``evaluate`` looks at
    digits: int = 1  # of the score, when it is told

    @property
    def models(self) -> dict[str, nn.Module]:
        """What a resumed run needs back."""
        return {"model": self.model} | ({"average": self.average} if self.average is not None else {})


@dataclass(frozen=True)
class LoopConfig:
    """How it is trained. ``patience`` and ``grad_clip`` are off at 0; ``compute`` is resolved.

    ``keep_start``: the model before the first step is evaluated as epoch 0, and may prove the best.
    """

    epochs: int
    patience: int
    grad_clip: float
    lr: float
    lr_factor: Callable[[int], float]
    seed: int
    compute: Compute
    log_every: int
    keep_start: bool = False


class Interrupted(Exception):
    """Ctrl-C: the run is usable and can be resumed."""


def fit(
    task: Task, pace: LoopConfig, optimizer: optim.Optimizer, state: LoopState, folder: Path, tools: Loggers
) -> LoopState:
    """Train from ``state`` to the last epoch or until ``patience`` runs out; returns the last state.

    After each epoch: evaluate, keep the best model, write ``folder/last``. Raises Interrupted at Ctrl-C, BadData when
    the loss is no longer finite.
    """
    scaler = torch.amp.GradScaler(pace.compute.device.split(":")[0], enabled=pace.compute.precision == "fp16")
    if state.scaler:
        scaler.load_state_dict(state.scaler)
    with tools.reporter.task("training", pace.epochs * len(task.batches), "steps") as bar:
        bar.advance(state.step)
        if pace.keep_start and not state.history:
            _close_epoch(task, state, tools, bar)
        while state.epoch < pace.epochs and not _stopped_improving(state, pace.patience):
            try:
                _run_epoch(task, pace, optimizer, scaler, state, tools.log, bar)
                _close_epoch(task, state, tools, bar)
            except KeyboardInterrupt as error:
                if state.best_score is None:
                    task.save_best({})  # better a model of half an epoch than none
                raise Interrupted from error
            state.scaler = scaler.state_dict() if scaler.is_enabled() else {}
            save_state(folder / "last", state, task.models, optimizer)
    return state


@dataclass(frozen=True)
class Loggers:
    """Where the loop tells what goes on."""

    reporter: Reporter
    log: RunLog


def _run_epoch(
    task: Task,
    pace: LoopConfig,
    optimizer: optim.Optimizer,
    scaler: torch.amp.GradScaler,
    state: LoopState,
    log: RunLog,
    bar: ProgressTask,
) -> None:
    task.model.train()
    seed_epoch(pace.seed, state.epoch)
    step, captions, since = state.step, 0, time.perf_counter()
    for batch in task.batches.epoch(state.epoch):
        lr = pace.lr * pace.lr_factor(step)
        for group in optimizer.param_groups:
            group["lr"] = lr * group.get("share", 1.0)
        with pace.compute.autocast():
            loss = task.batch_loss(batch)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(task.model.parameters(), pace.grad_clip or float("inf"))
        scaler.step(optimizer)
        scaler.update()
        if task.average is not None:
            task.average.update_parameters(task.model)
        step += 1
        captions += len(batch.lengths)
        bar.advance()
        if step % pace.log_every == 0:
            value, seconds = loss.item(), time.perf_counter() - since
            if not math.isfinite(value):
                raise BadData(f"the loss is not finite at step {step}", "train with a lower --set optimizer.lr")
            numbers = {"loss": value, "lr": lr, "grad_norm": norm.item(), "captions_per_s": captions / seconds}
            log.write("step", step, state.epoch, numbers)
            bar.advance(0, loss=value, **_facts(task, state))
            captions, since = 0, time.perf_counter()
    state.step, state.epoch = step, state.epoch + 1


def _close_epoch(task: Task, state: LoopState, tools: Loggers, bar: ProgressTask) -> None:
    for model in task.models.values():
        model.eval()
    metrics = task.evaluate()
    tools.log.write("eval", state.step, state.epoch, metrics)
    state.history.append({"epoch": state.epoch, **metrics})
    score = metrics[task.score]
    best = state.best_score is None or score > state.best_score
    if best:
        state.best_score, state.best_epoch = score, state.epoch
        task.save_best(metrics)
    tools.reporter.info(
        f"epoch {state.epoch}: val {task.score} {score:.{task.digits}f}{', the best so far' if best else ''}"
    )
    bar.advance(0, **_facts(task, state))


def _facts(task: Task, state: LoopState) -> dict[str, object]:
    latest = state.history[-1][task.score] if state.history else None
    return {"epoch": state.epoch + 1} | ({} if latest is None else {f"val {task.score}": f"{latest:.{task.digits}f}"})


def _stopped_improving(state: LoopState, patience: int) -> bool:
    return bool(patience) and state.epoch - state.best_epoch >= patience

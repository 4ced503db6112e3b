"""The training loop, the same for every kind of model: train, evaluate, save.

A run resumes at the end of an epoch. Every epoch seeds the random number generators, so an epoch that is repeated
after an interruption takes the same steps as the one that was interrupted.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import Tensor

from xmodal_cli import interrupts
from xmodal_cli.config import TrainingConfig
from xmodal_cli.errors import BadData
from xmodal_cli.reporter import ProgressTask, Reporter
from xmodal_cli.training.checkpoint import LoopState, save_state, seed_epoch
from xmodal_cli.training.distributed import SINGLE, ProcessGroup
from xmodal_cli.training.log import RunLog
from xmodal_cli.training.optimizer import lower_lr
from xmodal_cli.training.step import TrainStep
from xmodal_cli.training.task import Task

RESUME = "repeat the command with --resume to continue"


class Interrupted(Exception):
    """Ctrl-C: the run is usable and can be resumed."""


def fit(
    train_step: TrainStep,
    config: TrainingConfig,
    state: LoopState,
    folder: Path,
    reporter: Reporter,
    log: RunLog | None,
    group: ProcessGroup = SINGLE,
) -> LoopState:
    """Train from ``state`` to the last epoch or until ``patience`` runs out; returns the last state.

    Evaluates every ``validate_every`` epochs or steps and at the end, saves the best model, and writes ``folder/last``
    after each epoch. Of several processes, only the main one writes files, and has a ``log``. Of ``config`` it uses
    also ``epochs``, ``patience``, ``seed``, ``log_every`` and ``eval_initial``.
    Raises Interrupted at Ctrl-C, BadData when the loss is not finite.
    """
    loop = _Loop(train_step, config, state, folder, reporter, log, group)
    if state.scaler:
        train_step.scaler.load_state_dict(state.scaler)
    hint = f"{RESUME}: {{}} of {config.epochs:,} epochs are done"
    with (
        interrupts.resumable(lambda: hint.format(f"{state.epoch:,}")),
        reporter.task("training", config.epochs * len(loop.task.batches), "steps") as bar,
    ):
        loop.bar = bar
        bar.advance(state.step)
        if config.eval_initial and not state.history:
            loop.evaluate(state.epoch)
        while state.epoch < config.epochs and not _stopped_improving(state, config.patience):
            try:
                loop.train_epoch()
                state.scaler = train_step.scaler.state_dict() if train_step.scaler.is_enabled() else {}
                if group.is_main:
                    save_state(folder / "last", state, loop.task.models, train_step.optimizer)
            except KeyboardInterrupt as error:
                if state.best_score is None and group.is_main:
                    loop.task.save_best({})  # a model of a part of the first epoch, so that the run has one
                raise Interrupted from error
    if state.epoch < config.epochs:
        reporter.info(f"stopped: no better val {loop.task.score} in {state.waited} evaluations (training.patience)")
    if state.best_score == 0:
        reporter.warn(f"the val {loop.task.score} is 0 after {state.step} steps: train for more epochs or on more data")
    return state


class _Loop:
    """The parts of a run that all steps of the loop use; ``bar`` is set before the first one."""

    bar: ProgressTask

    def __init__(
        self,
        train_step: TrainStep,
        config: TrainingConfig,
        state: LoopState,
        folder: Path,
        reporter: Reporter,
        log: RunLog | None,
        group: ProcessGroup,
    ) -> None:
        self.train_step, self.config, self.state = train_step, config, state
        self.folder, self.reporter, self.log, self.group = folder, reporter, log, group
        self.task = train_step.task

    def train_epoch(self) -> None:
        """One pass over the batches, with the evaluations that are due; advances ``state.step`` and ``state.epoch``."""
        config, state = self.config, self.state
        self.task.model.train()
        seed_epoch(config.seed, state.epoch, self.group.rank)
        step, captions, since = state.step, 0, time.perf_counter()
        last_step = step + len(self.task.batches)
        is_finite: Tensor | bool = True
        for batch in self.task.batches.epoch(state.epoch):
            loss, lr, grad_norm = self.train_step(batch, step)
            step += 1
            captions += batch.size
            self.bar.advance()
            is_finite = is_finite & self._is_finite(loss, grad_norm)
            if step % config.log_every == 0 or step == last_step:  # a short epoch has a loss in the log too
                self._check_finite(is_finite, step)
                value, seconds = loss.item(), time.perf_counter() - since
                metrics = {"loss": value, "lr": lr, "grad_norm": grad_norm.item(), "captions_per_s": captions / seconds}
                self._write("step", step, state.epoch + 1, metrics)
                self.bar.advance(0, loss=value, **_progress(self.task, state, config.epochs))
                captions, since = 0, time.perf_counter()
            if self._is_due(step) and step != last_step:
                with torch.random.fork_rng():  # the steps after it use the same random numbers as without it
                    self.evaluate(state.epoch + 1, step)
                self.task.model.train()
        state.step, state.epoch = step, state.epoch + 1
        if self._is_due(step, at_end=True):
            self.evaluate(state.epoch)

    def _write(self, event: str, step: int, epoch: int, metrics: dict[str, float]) -> None:
        if self.log is not None:
            self.log.write(event, step, epoch, metrics)

    def _is_due(self, step: int, at_end: bool = False) -> bool:
        """Whether the model is evaluated after ``step``; ``at_end`` is set after the last step of an epoch."""
        config, state = self.config, self.state
        if at_end and state.epoch == config.epochs:
            return True
        if config.validate_unit == "steps":
            return step % config.validate_every == 0
        return at_end and state.epoch % config.validate_every == 0

    def _is_finite(self, loss: Tensor, grad_norm: Tensor) -> Tensor:
        """() bool, on the device. A gradient that overflows fp16 is skipped by the scaler."""
        return loss.isfinite() if self.train_step.scaler.is_enabled() else loss.isfinite() & grad_norm.isfinite()

    def _check_finite(self, is_finite: Tensor | bool, step: int) -> None:
        """Raise BadData; the command of the hint is not refused because of what this run has written."""
        if bool(is_finite):
            return
        lower = f"--set optimizer.lr={lower_lr(self.train_step.optimizer.defaults['lr']):g}"
        hint = f"train again with a lower learning rate, for example {lower}"
        if self.state.best_score is not None:
            hint += f", and another --out: {self.folder} keeps its best model so far"
        raise BadData(f"the loss or its gradient is not finite at step {step}", hint)

    def evaluate(self, epoch: int, step: int | None = None) -> None:
        """Compute and log the val metrics; save the model where its score is the best so far.

        ``epoch`` counts from 1, and ``step`` is that inside an epoch.
        """
        task, state = self.task, self.state
        for model in task.models.values():
            model.eval()
        metrics = task.evaluate()
        self._write("eval", step or state.step, epoch, metrics)
        entry = {"epoch": epoch, **({} if step is None else {"step": step}), **metrics}
        state.history.append(entry)
        value = metrics[task.score]
        score = -value if task.lower_is_better else value
        # a model that scores 0 has learned nothing that the metric can see, and the next one has learned more
        is_best = state.best_score is None or score > state.best_score or score == state.best_score == 0
        state.waited += 1
        if is_best:
            state.best_score, state.best_epoch, state.best, state.waited = score, epoch, entry, 0
            if self.group.is_main:
                task.save_best(metrics)
        when = f"epoch {epoch}" if step is None else f"epoch {epoch}, step {step}"
        best = ", the best so far" if is_best else ""
        self.reporter.info(f"{when}: val {task.score} {value:.{task.digits}f}{best}")
        self.bar.advance(0, **_progress(task, state, self.config.epochs))


def _progress(task: Task, state: LoopState, epochs: int) -> dict[str, object]:
    """What the progress bar shows: the epoch, from 1 to ``epochs``, and the latest val score if there is one."""
    latest = state.history[-1][task.score] if state.history else None
    epoch: dict[str, object] = {"epoch": min(state.epoch + 1, epochs)}
    return epoch if latest is None else epoch | {f"val {task.score}": f"{latest:.{task.digits}f}"}


def _stopped_improving(state: LoopState, patience: int) -> bool:
    return bool(patience) and state.waited >= patience

"""The training loop, the same for every kind of model: train an epoch, evaluate, save.

A run resumes at the end of an epoch. Every epoch seeds the random number generators, so an epoch that is repeated
after an interruption takes the same steps as the one that was interrupted.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from xmodal_cli.config import TrainingConfig
from xmodal_cli.errors import BadData
from xmodal_cli.reporter import ProgressTask, Reporter
from xmodal_cli.training.checkpoint import LoopState, save_state, seed_epoch
from xmodal_cli.training.log import RunLog
from xmodal_cli.training.step import TrainStep
from xmodal_cli.training.task import Task


class Interrupted(Exception):
    """Ctrl-C: the run is usable and can be resumed."""


def fit(
    train_step: TrainStep, config: TrainingConfig, state: LoopState, folder: Path, reporter: Reporter, log: RunLog
) -> LoopState:
    """Train from ``state`` to the last epoch or until ``patience`` runs out; returns the last state.

    After each epoch: evaluate, save the best model, write ``folder/last``. Of ``config`` it uses ``epochs``,
    ``patience``, ``seed``, ``log_every`` and ``eval_initial``. Raises Interrupted at Ctrl-C, BadData when the loss is
    not finite.
    """
    task, scaler = train_step.task, train_step.scaler
    if state.scaler:
        scaler.load_state_dict(state.scaler)
    with reporter.task("training", config.epochs * len(task.batches), "steps") as bar:
        bar.advance(state.step)
        if config.eval_initial and not state.history:
            _evaluate(task, state, reporter, log, bar)
        while state.epoch < config.epochs and not _stopped_improving(state, config.patience):
            try:
                _train_epoch(train_step, config, state, log, bar)
                _evaluate(task, state, reporter, log, bar)
            except KeyboardInterrupt as error:
                if state.best_score is None:
                    task.save_best({})  # a model of a part of the first epoch, so that the run has one
                raise Interrupted from error
            state.scaler = scaler.state_dict() if scaler.is_enabled() else {}
            save_state(folder / "last", state, task.models, train_step.optimizer)
    return state


def _train_epoch(
    train_step: TrainStep, config: TrainingConfig, state: LoopState, log: RunLog, bar: ProgressTask
) -> None:
    """One pass over the batches; logs every ``log_every`` steps, advances ``state.step`` and ``state.epoch``."""
    task = train_step.task
    task.model.train()
    seed_epoch(config.seed, state.epoch)
    step, captions, since = state.step, 0, time.perf_counter()
    for batch in task.batches.epoch(state.epoch):
        loss, lr, grad_norm = train_step(batch, step)
        step += 1
        captions += len(batch.lengths)
        bar.advance()
        if step % config.log_every == 0:
            value, seconds = loss.item(), time.perf_counter() - since
            if not math.isfinite(value):
                raise BadData(f"the loss is not finite at step {step}", "train with a lower --set optimizer.lr")
            metrics = {"loss": value, "lr": lr, "grad_norm": grad_norm.item(), "captions_per_s": captions / seconds}
            log.write("step", step, state.epoch, metrics)
            bar.advance(0, loss=value, **_progress(task, state))
            captions, since = 0, time.perf_counter()
    state.step, state.epoch = step, state.epoch + 1


def _evaluate(task: Task, state: LoopState, reporter: Reporter, log: RunLog, bar: ProgressTask) -> None:
    """Compute and log the val metrics; save the model where its score is the best so far."""
    for model in task.models.values():
        model.eval()
    metrics = task.evaluate()
    log.write("eval", state.step, state.epoch, metrics)
    state.history.append({"epoch": state.epoch, **metrics})
    score = metrics[task.score]
    is_best = state.best_score is None or score > state.best_score
    if is_best:
        state.best_score, state.best_epoch = score, state.epoch
        task.save_best(metrics)
    reporter.info(
        f"epoch {state.epoch}: val {task.score} {score:.{task.digits}f}{', the best so far' if is_best else ''}"
    )
    bar.advance(0, **_progress(task, state))


def _progress(task: Task, state: LoopState) -> dict[str, object]:
    """What the progress bar shows: the epoch (1-based), and the latest val score if there is one."""
    latest = state.history[-1][task.score] if state.history else None
    return {"epoch": state.epoch + 1} | ({} if latest is None else {f"val {task.score}": f"{latest:.{task.digits}f}"})


def _stopped_improving(state: LoopState, patience: int) -> bool:
    return bool(patience) and state.epoch - state.best_epoch >= patience

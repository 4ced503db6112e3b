"""Train a matcher or a captioner: prepare the run, run the training loop, write the metrics."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xmodal_cli.config import Config, first_names, to_toml, with_data
from xmodal_cli.data.registry import resolve_name
from xmodal_cli.evaluation.scoring import nest, unnest
from xmodal_cli.file_lock import folder_lock
from xmodal_cli.models.model_file import ModelHeader
from xmodal_cli.paths import CONFIG_FILE, MODEL_FILE, write_text
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval.ranks import keep_num_threads
from xmodal_cli.trainers import small_data
from xmodal_cli.trainers.early_checks import report_untrained_start
from xmodal_cli.trainers.job import Job, build_train_step
from xmodal_cli.trainers.objective import find_objective
from xmodal_cli.trainers.preparation import prepare
from xmodal_cli.trainers.resume import check_folder, run_folder, state_file
from xmodal_cli.training.checkpoint import LoopState, load_state
from xmodal_cli.training.curves import draw_curves
from xmodal_cli.training.distributed import process_group
from xmodal_cli.training.log import RunLog, rewind_log
from xmodal_cli.training.loop import Interrupted, fit


@dataclass(frozen=True)
class TrainResult:
    """A finished (or interrupted) run: its folder, its model file, the best val metrics and their epoch.

    ``val`` has a dictionary per direction for a matcher; ``seconds`` is the duration of this call.
    """

    run: Path
    model: Path
    best_epoch: int
    epochs: int
    interrupted: bool
    val: dict[str, float | dict[str, float]]
    seconds: float

    @property
    def metrics(self) -> dict[str, float]:
        """``val`` by flat names, such as ``image_to_text R@1``, as in ``metrics.json``."""
        return unnest(self.val)


def train_model(
    config: Config,
    data: str,
    out: Path | None = None,
    resume: bool = False,
    init_from: str | None = None,
    reporter: Reporter = SILENT,
    check_photos: Path | None = None,
) -> TrainResult:
    """Train on ``data`` (a registered name or a path) and keep the best model on val, by default by rsum or CIDEr.

    ``data.features_from`` is checked on the photos in the folder ``check_photos``. Raises XmodalError kinds: unknown
    data or names, a run that already exists (without ``resume``), settings that differ from those of the run that is
    resumed, a split without captions, a full disk, a run that another process is training.

    Processes that torchrun has started train the run together; all return the result, and the main one writes it.
    """
    started = time.perf_counter()
    run = run_folder(config, data, out)
    with process_group(config.training.device) as group, contextlib.ExitStack() as stack:
        reporter = reporter if group.is_main else SILENT
        with group.main_first():
            if group.is_main:
                stack.enter_context(folder_lock(run, f"the run {run}", reporter))
                check_folder(run, config, resume)
            if not resume:
                report_untrained_start(config, init_from, reporter)
            nameless = with_data(config, "")  # a model file has no paths
            job = prepare(nameless, data, run, init_from, reporter, check_photos, group)
        state, interrupted = _fit(job, resolve_name(data))
        return _finish(job, state, interrupted, time.perf_counter() - started)


def _fit(job: Job, data: str) -> tuple[LoopState, bool]:
    """Run the loop from its checkpoint, if there is one; returns the last state and whether it was interrupted."""
    config = job.config
    keep_num_threads()
    torch.manual_seed(config.training.seed)
    objective = find_objective(config)
    state = LoopState(origin=_origin(job.header))
    task = objective.build_task(job, state)
    optimizer = objective.build_optimizer(config, task.model)
    if state_file(job.run).exists():
        vars(state).update(vars(load_state(job.run / "last", task.models, optimizer, state.origin)))
        small_data.check_resumed(job.adapted, state.adapted, str(job.run))
        job.reporter.info(f"resuming {job.run} after epoch {state.epoch}")
    small_data.report(config, job.adapted, len(task.batches), job.reporter)
    state.adapted = dict(job.adapted)
    train_step = build_train_step(job.effective_config, task, optimizer, job.compute)
    with _open_log(job, data, state) if job.group.is_main else contextlib.nullcontext() as log:
        try:
            fit(train_step, config.training, state, job.run, job.reporter, log, job.group)
        except Interrupted:
            return state, True
    return state, False


def _open_log(job: Job, data: str, state: LoopState) -> RunLog:
    """Write the settings, which are the first file of the run, after all checks; open the log at the last step."""
    write_text(job.run / CONFIG_FILE, to_toml(with_data(job.config, data)))
    rewind_log(job.run, state.step if state.epoch or state.history else -1)
    return RunLog(job.run, job.config.training.tensorboard)


def _origin(header: ModelHeader) -> str:
    """A hash of data, features, architecture and vocabulary, which must not change when a run is resumed."""
    architecture = first_names({"model": header.architecture})["model"]  # a digest that renames do not change
    dataset = {key: value for key, value in header.dataset.items() if key != "features_from"}  # it is in the backbone
    shared = (dataset, header.backbone, architecture, header.tokenizer)
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _finish(job: Job, state: LoopState, interrupted: bool, seconds: float) -> TrainResult:
    """Write ``metrics.json`` and ``curves.png``, without times, so that equal runs write equal files."""
    best = state.best
    record: dict[str, Any] = {"preset": job.config.preset, "data": job.train.images.dataset.name}
    record |= {"split": job.config.data.val_split, "best_epoch": state.best_epoch, "epochs": state.epoch}
    record |= {"best": best, "history": state.history}
    if job.group.is_main:
        write_text(job.run / "metrics.json", json.dumps(record, indent=2) + "\n")
        draw_curves(job.run)
    model, val = job.run / MODEL_FILE, nest(best)
    return TrainResult(job.run, model, state.best_epoch, state.epoch, interrupted, val, round(seconds, 3))

"""Train a matcher: data, features, vocabulary and parts come together here; the loop does the rest."""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xmodal_cli import catalog
from xmodal_cli.config import Config, from_dict, to_dict, to_toml
from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.errors import ConfigError, IncompatibleFeatures
from xmodal_cli.models.storage.modelfile import ModelHeader, read_tensors, write_model
from xmodal_cli.models.storage.tokenizer import Tokenizer
from xmodal_cli.paths import runs_dir, write_text
from xmodal_cli.recipes.assembly import build_matcher, describe
from xmodal_cli.recipes.device import pick_device, pick_dtype
from xmodal_cli.recipes.models import MODEL_FILE, describe_model, embed_features, embed_tokens, find_model
from xmodal_cli.recipes.scoring import Embeddings, flatten, score_embeddings
from xmodal_cli.recipes.splits import Split, captioned, in_memory, with_features
from xmodal_cli.training.batches import Batch, CaptionBatches
from xmodal_cli.training.checkpoint import FILE as STATE_FILE
from xmodal_cli.training.checkpoint import LoopState, load_state
from xmodal_cli.training.curves import draw_curves
from xmodal_cli.training.log import RunLog, rewind_log
from xmodal_cli.training.loop import Interrupted, Pace, Task, Tools, autocast, fit
from xmodal_cli.training.optimizer import build_optimizer, build_schedule
from xmodal_cli.types import FeatureMeta, Loss, Reporter, Silent

SCORE = "rsum"


@dataclass(frozen=True)
class TrainResult:
    """A finished (or interrupted) run: its folder, the best val figures and the epoch they are of."""

    run: Path
    model: Path
    metrics: dict[str, float]
    best_epoch: int
    epochs: int
    interrupted: bool
    seconds: float


@dataclass(frozen=True)
class _Job:
    """What the steps below share."""

    config: Config
    run: Path
    train: Split
    val: Split
    header: ModelHeader
    device: str
    reporter: Reporter


def run_folder(config: Config, data: str, out: Path | None = None) -> Path:
    """Where the run goes: ``out``, or ``runs/<preset>-<data>`` at home."""
    return out or runs_dir() / f"{config.preset}-{Path(data).resolve().stem if Path(data).exists() else data}"


def train_matcher(
    config: Config,
    data: str,
    out: Path | None = None,
    resume: bool = False,
    init_from: str | None = None,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Train on ``data`` (a registered name or a path) and keep the best model on val.

    Raises XmodalError kinds: unknown data or names, a run that is already there (without ``resume``), settings that
    differ from those of the run that is resumed, a split without captions, a full disk.
    """
    started = time.perf_counter()
    run = run_folder(config, data, out)
    _claim(run, config, resume)
    job = _prepare(config, data, run, init_from, reporter or Silent())
    state, interrupted = _fit(job, init_from)
    return _finish(job, state, interrupted, time.perf_counter() - started)


def _claim(run: Path, config: Config, resume: bool) -> None:
    """Refuse to write over another training."""
    existing = run / "config.toml"
    if not existing.exists():
        return
    if not resume:
        hint = f"--resume goes on with it, --out RUN trains elsewhere; or delete {run}"
        raise ConfigError(f"{run} already holds a training", hint)
    before = from_dict(tomllib.loads(existing.read_text(encoding="utf-8")))
    if _lasting(before) != _lasting(config):
        hint = (
            "resume with the settings it was started with (only length, patience and device may change), or use --out"
        )
        raise ConfigError(f"{run} was trained with other settings", hint)


def _lasting(config: Config) -> Config:
    """The settings that a resumed run must share with its beginning."""
    shape = config.schedule.name in ("cosine", "linear")  # their curve depends on the number of epochs
    epochs = config.training.epochs if shape else 0
    return replace(config, training=replace(config.training, epochs=epochs, patience=0, device="", log_every=0))


def _prepare(config: Config, data: str, run: Path, init_from: str | None, reporter: Reporter) -> _Job:
    device, precision = pick_device(config.training.device), config.training.precision
    _check_parts(config)
    dataset = load_dataset(data)
    parts = [captioned(dataset, *config.data.train_splits), captioned(dataset, config.data.val_split)]
    (train, features), (val, val_features) = [
        with_features(part, config.features, device, precision, reporter) for part in parts
    ]
    if init_from is None:
        tokenizer = Tokenizer.from_captions(train.captions, config.data.min_word_count)
    else:
        tokenizer = _tokenizer_of(init_from, features.meta)
    header = ModelHeader(
        kind="matcher",
        architecture=describe(config.model, features.meta.dim, tokenizer.vocab_size),
        tokenizer=tokenizer.to_json(),
        backbone=asdict(features.meta),
        similarity=config.model.similarity.name,
        training=to_dict(config),
        dataset={"name": dataset.name, "splits": list(config.data.train_splits), "fingerprint": fingerprint(dataset)},
    )
    write_text(run / "config.toml", to_toml(config))
    train_split, val_split = in_memory(train, features, tokenizer), in_memory(val, val_features, tokenizer)
    return _Job(config, run, train_split, val_split, header, device, reporter)


def _tokenizer_of(init_from: str, meta: FeatureMeta) -> Tokenizer:
    """The vocabulary of the model to start from, which must read the same features."""
    summary = describe_model(init_from)
    if summary.meta.key() != meta.key():
        raise IncompatibleFeatures(
            f"{summary.name} reads features of {summary.meta.backbone}, this training has {meta.backbone}",
            "start from a model of the same backbone, or name that backbone with --backbone",
        )
    return Tokenizer.from_json(summary.header.tokenizer)


def _check_parts(config: Config) -> None:
    """Build everything once, small, so that a misspelt name is told before the features are extracted."""
    build_matcher(describe(replace(config.model, embed_dim=2), 2, 8))
    _losses(config)
    optimizer = config.optimizer
    build_optimizer([nn.Parameter(torch.zeros(1))], optimizer.name, optimizer.lr, optimizer.weight_decay)
    _lr_factor(config, 1)


def _fit(job: _Job, init_from: str | None) -> tuple[LoopState, bool]:
    """Run the loop from its saved state, if there is one; returns the last state and whether it was interrupted."""
    config = job.config
    torch.manual_seed(config.training.seed)
    model = build_matcher(job.header.architecture)
    if init_from is not None:
        _start_from(model, init_from)
    model.to(job.device)
    settings = config.optimizer
    optimizer = build_optimizer(model.parameters(), settings.name, settings.lr, settings.weight_decay)
    state = LoopState(origin=_origin(job.header))
    if (job.run / "last" / STATE_FILE).exists():
        state = load_state(job.run / "last", model, optimizer, state.origin)
        job.reporter.say(f"resuming {job.run} after epoch {state.epoch}")
    rewind_log(job.run, state.step)
    task = _task(job, model, state)
    with RunLog(job.run, config.training.tensorboard) as log:
        try:
            fit(task, _pace(config, len(task.batches), job.device), optimizer, state, job.run, Tools(job.reporter, log))
        except Interrupted:
            return state, True
    return state, False


def _origin(header: ModelHeader) -> str:
    """What a resumed run must share with its beginning besides the settings: data, features, vocabulary."""
    shared = (header.dataset, header.backbone, header.architecture, header.tokenizer)
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _start_from(model: nn.Module, name: str) -> None:
    try:
        model.load_state_dict(read_tensors(find_model(name)))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{name} does not fit this preset: {reason}", "use the preset it was trained with") from error


def _task(job: _Job, model: nn.Module, state: LoopState) -> Task:
    matcher: Any = model
    training, val, place = job.config.training, job.val, job.device
    dtype = pick_dtype(training.precision, place)
    first, loss = _losses(job.config)
    warm_epochs = job.config.warmup.epochs

    def batch_loss(batch: Batch) -> Tensor:
        images = matcher.encode_image(batch.image_features)
        texts = matcher.encode_text(batch.tokens, batch.lengths)
        with autocast(place, torch.float32):
            value: Tensor = (first if state.epoch < warm_epochs else loss)(
                matcher.similarity(images, texts), batch.positives
            )
        return value

    def evaluate() -> dict[str, float]:
        images = embed_features(matcher, val.features.numpy(), place, dtype)
        texts = embed_tokens(matcher, val.tokens, val.lengths, place, dtype)
        vectors = Embeddings(images, texts, val.dataset.image_of_caption, matcher.similarity.name)
        return flatten(score_embeddings(vectors))

    def save_best(metrics: dict[str, float]) -> None:
        write_model(job.run / MODEL_FILE, replace(job.header, metrics=metrics), matcher.state_dict())

    owner = torch.from_numpy(job.train.dataset.image_of_caption).to(place)
    captions = (job.train.tokens.to(place), job.train.lengths)
    batches = CaptionBatches(job.train.features.to(place), captions, owner, training.batch_size, training.seed)
    return Task(model, batches, batch_loss, evaluate, SCORE, save_best)


def _losses(config: Config) -> tuple[Loss, Loss]:
    """The loss of the first ``warmup.epochs`` epochs, and that of the others."""
    first, loss = (catalog.build("loss", part.name, part.args) for part in (config.warmup.loss, config.loss))
    return first, loss


def _pace(config: Config, steps_per_epoch: int, device: str) -> Pace:
    training, optimizer = config.training, config.optimizer
    return Pace(
        epochs=training.epochs,
        patience=training.patience,
        grad_clip=optimizer.grad_clip,
        lr=optimizer.lr,
        lr_factor=_lr_factor(config, steps_per_epoch),
        seed=training.seed,
        device=device,
        dtype=pick_dtype(training.precision, device),
        log_every=training.log_every,
    )


def _lr_factor(config: Config, steps_per_epoch: int) -> Any:
    plan = config.schedule
    epochs = config.training.epochs
    return build_schedule(plan.name, steps_per_epoch, epochs, plan.warmup_steps, plan.step_epochs, plan.gamma)


def _finish(job: _Job, state: LoopState, interrupted: bool, seconds: float) -> TrainResult:
    """Write ``metrics.json`` and ``curves.png``; figures only, so that equal runs give equal files."""
    best: dict[str, float] = next((h for h in state.history if h["epoch"] == state.best_epoch), {})
    record: dict[str, Any] = {"preset": job.config.preset, "data": job.train.dataset.name}
    record |= {"split": job.config.data.val_split, "best_epoch": state.best_epoch, "epochs": state.epoch}
    record |= {"best": best, "history": state.history}
    write_text(job.run / "metrics.json", json.dumps(record, indent=2) + "\n")
    draw_curves(job.run)
    return TrainResult(job.run, job.run / MODEL_FILE, best, state.best_epoch, state.epoch, interrupted, seconds)

"""Train a matcher or a captioner: data, features, vocabulary and parts come together here; the loop does the rest."""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xmodal_cli.config import Config, from_dict, to_dict, to_toml
from xmodal_cli.data.fingerprint import fingerprint
from xmodal_cli.data.registry import load_dataset
from xmodal_cli.errors import ConfigError, IncompatibleFeatures, UnknownName
from xmodal_cli.models._towers import load_own_tensors
from xmodal_cli.models.captioners._behind import CaptionerBehindTower
from xmodal_cli.models.storage.modelfile import ModelHeader, read_tensors
from xmodal_cli.models.storage.tokenizer import Tokenizer
from xmodal_cli.paths import runs_dir, write_text
from xmodal_cli.recipes import learner
from xmodal_cli.recipes.assembly import Sizes, describe, describe_captioner
from xmodal_cli.recipes.device import keep_num_threads, pick_device, pick_dtype
from xmodal_cli.recipes.language import language_model, with_its_sizes
from xmodal_cli.recipes.learner import Job, pace_of
from xmodal_cli.recipes.models import MODEL_FILE, describe_model, find_model
from xmodal_cli.recipes.splits import Pictures, Split, captioned, read_pictures, token_ids, whole_captions
from xmodal_cli.recipes.towers import ImageSide, TextSide, image_side, text_side, text_states, what_is_read
from xmodal_cli.recipes.word_vectors import start_from_word_vectors
from xmodal_cli.training.checkpoint import FILE as STATE_FILE
from xmodal_cli.training.checkpoint import LoopState, load_state
from xmodal_cli.training.curves import draw_curves
from xmodal_cli.training.log import RunLog, rewind_log
from xmodal_cli.training.loop import Interrupted, Tools, fit
from xmodal_cli.types import FeatureMeta, Reporter, Silent


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


KINDS = ("matcher", "captioner")


def run_folder(config: Config, data: str, out: Path | None = None) -> Path:
    """Where the run goes: ``out``, or ``runs/<preset>-<data>`` at home."""
    return out or runs_dir() / f"{config.preset}-{Path(data).resolve().stem if Path(data).exists() else data}"


def train_model(
    config: Config,
    data: str,
    out: Path | None = None,
    resume: bool = False,
    init_from: str | None = None,
    reporter: Reporter | None = None,
) -> TrainResult:
    """Train on ``data`` (a registered name or a path) and keep the best model on val: by rsum, or by CIDEr.

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


def _prepare(config: Config, data: str, run: Path, init_from: str | None, reporter: Reporter) -> Job:
    device, precision = pick_device(config.training.device), config.training.precision
    _kind(config).check_parts(config)
    dataset = load_dataset(data)
    language = language_model(config)
    config = with_its_sizes(config, language)
    text, image = text_side(config), image_side(config)
    parts = [captioned(dataset, *config.data.train_splits), captioned(dataset, config.data.val_split)]
    pictures = [read_pictures(part, what_is_read(config), device, precision, reporter) for part in parts]
    meta = pictures[0].meta
    encoder = text.backbone if text is not None else language
    pretrained = None if encoder is None else encoder.tokenizer
    if init_from is not None:
        tokenizer = _tokenizer_of(init_from, meta, image)
    else:
        tokenizer = _tokenizer(config, pictures[0].dataset.captions, pretrained)
    header = ModelHeader(
        kind=config.kind,
        architecture=_architecture(config, meta, tokenizer, (image, text)),
        tokenizer=tokenizer.to_json(),
        backbone=asdict(meta),
        similarity=config.model.similarity.name if config.kind == "matcher" else "",
        training=to_dict(config),
        dataset={"name": dataset.name, "splits": list(config.data.train_splits), "fingerprint": fingerprint(dataset)},
    )
    computing = (device, pick_dtype(precision, device))

    def split(found: Pictures) -> Split:
        if config.kind == "captioner":
            wanted = config.captioning.tags, config.training.seed
            return Split(found, *whole_captions(found.dataset.captions, tokenizer, *wanted))
        captions = (
            text_states(text.backbone, found.dataset.captions, *computing, reporter)
            if text is not None and text.cached
            else token_ids(found.dataset.captions, tokenizer)
        )
        return Split(found, *captions)

    towers = {name: side.stack() for name, side in (("image", image), ("text", text)) if side is not None}
    train, val = (split(part) for part in pictures)
    return Job(config, run, train, val, header, towers, device, reporter, language.tensors if language else None)


def _kind(config: Config) -> Any:
    """What a training of this kind optimises: ``recipes.learner`` or ``recipes.caption_learner``."""
    if config.kind not in KINDS:
        raise UnknownName.of("kind of model", config.kind, KINDS)
    if config.kind == "matcher":
        return learner
    from xmodal_cli.recipes import caption_learner

    return caption_learner


def _tokenizer(config: Config, captions: Sequence[str], pretrained: str | None) -> Tokenizer:
    """The vocabulary: of the pretrained encoder, or of the training captions."""
    if pretrained:
        return Tokenizer.from_json(pretrained)
    return Tokenizer.from_captions(captions, config.data.min_word_count)


def _architecture(
    config: Config, meta: FeatureMeta, tokenizer: Tokenizer, sides: tuple[ImageSide | None, TextSide | None]
) -> dict[str, Any]:
    image, text = sides
    image_dim, image_kind = (meta.dim, meta.kind) if image is None else (image.dim, image.kind)
    sizes = Sizes(image_dim, image_kind, tokenizer.vocab_size, text.backbone.meta.dim if text is not None else 0)
    model = replace(config.model, embed_dim=config.model.embed_dim or image_dim)
    tell = describe_captioner if config.kind == "captioner" else describe
    return tell(model, sizes, {k: s.facts() for k, s in (("image", image), ("text", text)) if s is not None})


def _tokenizer_of(init_from: str, meta: FeatureMeta, image: ImageSide | None) -> Tokenizer:
    """The vocabulary of the model to start from, which must read the same features, or what our tower makes."""
    summary = describe_model(init_from)
    read = summary.meta
    ours = None if image is None else (image.backbone, image.fingerprint, image.kind, image.dim)
    if read.key() != meta.key() and (read.backbone, read.fingerprint, read.kind, read.dim) != ours:
        raise IncompatibleFeatures(
            f"{summary.name} reads features of {read.backbone}, this training has {meta.backbone}",
            "start from a model of the same backbone, or name that backbone with --backbone",
        )
    return Tokenizer.from_json(summary.header.tokenizer)


def _fit(job: Job, init_from: str | None) -> tuple[LoopState, bool]:
    """Run the loop from its saved state, if there is one; returns the last state and whether it was interrupted."""
    config = job.config
    keep_num_threads()
    torch.manual_seed(config.training.seed)
    kind = _kind(config)
    whole = kind.build_learner(job)
    if init_from is not None:
        _start_from(whole.model, init_from)
    elif config.text.word_vectors:
        tokenizer = Tokenizer.from_json(job.header.tokenizer)
        start_from_word_vectors(whole.model, tokenizer, Path(config.text.word_vectors), job.reporter)
    whole.to(job.device)
    optimizer = kind.optimizer_of(config, whole)
    state = LoopState(origin=_origin(job.header))
    task = kind.build_task(job, whole, state)
    if (job.run / "last" / STATE_FILE).exists():
        vars(state).update(vars(load_state(job.run / "last", task.models, optimizer, state.origin)))
        job.reporter.say(f"resuming {job.run} after epoch {state.epoch}")
    write_text(job.run / "config.toml", to_toml(config))  # now that nothing can be refused any more
    rewind_log(job.run, state.step if state.history else -1)
    with RunLog(job.run, config.training.tensorboard) as log:
        try:
            pace = pace_of(config, len(task.batches), job.device)
            fit(task, pace, optimizer, state, job.run, Tools(job.reporter, log))
        except Interrupted:
            return state, True
    return state, False


def _origin(header: ModelHeader) -> str:
    """What a resumed run must share with its beginning besides the settings: data, features, vocabulary."""
    shared = (header.dataset, header.backbone, header.architecture, header.tokenizer)
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()


def _start_from(model: nn.Module, name: str) -> None:
    tensors = read_tensors(find_model(name))
    if isinstance(model, CaptionerBehindTower) and not any(key.startswith("captioner.") for key in tensors):
        model = model.captioner  # the second stage: what read features goes on behind the tower that makes them
    try:
        load_own_tensors(model, tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{name} does not fit this preset: {reason}", "use the preset it was trained with") from error


def _finish(job: Job, state: LoopState, interrupted: bool, seconds: float) -> TrainResult:
    """Write ``metrics.json`` and ``curves.png``; figures only, so that equal runs give equal files."""
    best: dict[str, float] = next((h for h in state.history if h["epoch"] == state.best_epoch), {})
    record: dict[str, Any] = {"preset": job.config.preset, "data": job.train.pictures.dataset.name}
    record |= {"split": job.config.data.val_split, "best_epoch": state.best_epoch, "epochs": state.epoch}
    record |= {"best": best, "history": state.history}
    write_text(job.run / "metrics.json", json.dumps(record, indent=2) + "\n")
    draw_curves(job.run)
    return TrainResult(job.run, job.run / MODEL_FILE, best, state.best_epoch, state.epoch, interrupted, seconds)

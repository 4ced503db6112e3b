"""What a training optimises, made of its settings: matcher and losses, batches, evaluation, optimiser, pace."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xmodal_cli import catalog
from xmodal_cli.config import Config
from xmodal_cli.data.augmentation import Augmentation
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.models._towers import own_tensors
from xmodal_cli.models.storage.modelfile import ModelHeader, write_model
from xmodal_cli.recipes.assembly import Sizes, Towers, build_matcher, describe
from xmodal_cli.recipes.device import pick_dtype
from xmodal_cli.recipes.encoding import file_vectors
from xmodal_cli.recipes.models import MODEL_FILE, embed_features, embed_tokens
from xmodal_cli.recipes.pixels import pixel_opener
from xmodal_cli.recipes.scoring import Embeddings, flatten, score_embeddings
from xmodal_cli.recipes.splits import Pictures, Split
from xmodal_cli.recipes.word_vectors import check_word_vectors
from xmodal_cli.training.batches import Batch, CaptionBatches, Plan
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.loop import EpochBatches, Pace, Task, autocast
from xmodal_cli.training.optimizer import build_optimizer, build_schedule, group_parameters
from xmodal_cli.training.pixel_batches import PixelBatches
from xmodal_cli.types import REGION_COLUMNS, Loss, Reporter

SCORE = "rsum"


@dataclass(frozen=True)
class Job:
    """A training that is ready to start: settings, data, and what the model's file will say of it."""

    config: Config
    run: Path
    train: Split
    val: Split
    header: ModelHeader
    towers: Towers
    device: str
    reporter: Reporter
    language: dict[str, Tensor] | None = None  # weights of a pretrained language model, for a captioner that has one


class Learner(nn.Module):
    """All that the optimiser may move: the matcher, and losses that have weights of their own."""

    def __init__(self, matcher: nn.Module, first: Loss, loss: Loss) -> None:
        super().__init__()
        self.model: Any = matcher
        self.first, self.loss = first, loss


def check_parts(config: Config) -> None:
    """Build everything once, small, so that a misspelt name is told before the features are extracted."""
    width = config.model.embed_dim or 16
    sizes = small_sizes(config, width)
    build_matcher(describe(replace(config.model, embed_dim=width), sizes))
    _losses(config)
    check_pace(config)
    check_word_vectors(config)


def small_sizes(config: Config, width: int) -> Sizes:
    """Sizes to try an architecture with before the data are known."""
    image_dim = width + (len(REGION_COLUMNS) if config.features.kind == "regions" else 0)
    return Sizes(image_dim, config.features.kind, 8, width if config.text.backbone else 0)


def check_pace(config: Config) -> None:
    """Try what every training has: optimiser, schedule, average, augmentation. Raises ConfigError, UnknownName."""
    optimizer = config.optimizer
    build_optimizer([nn.Parameter(torch.zeros(1))], optimizer.name, optimizer.lr, optimizer.weight_decay)
    _lr_factor(config, 1)
    if config.training.ema >= 1:
        raise ConfigError(f"training.ema must be below 1, not {config.training.ema}", "0.99 is a usual value")
    if config.optimizer.image_tower:
        _augmentation(config)


def build_learner(job: Job) -> Learner:
    """The matcher with fresh weights but for its towers, and the losses."""
    return Learner(build_matcher(job.header.architecture, job.towers), *_losses(job.config))


def optimizer_of(config: Config, learner: Learner) -> optim.Adam | optim.AdamW:
    """The optimiser over everything that is not frozen, the towers at their share of the learning rate."""
    settings = config.optimizer
    shares = {"image_encoder": settings.image_tower, "text_encoder": settings.text_tower}

    def share(name: str) -> float:
        _, encoder, *inner = name.split(".")
        return shares[encoder] if "tower" in inner else 1.0

    groups = group_parameters(learner, share, settings.weight_decay)
    return build_optimizer(groups, settings.name, settings.lr, settings.weight_decay)


def build_task(job: Job, learner: Learner, state: LoopState) -> Task:
    """What the loop needs. ``state`` tells the epoch, which decides between the first loss and the other."""
    training, val, place = job.config.training, job.val, job.device
    dtype = pick_dtype(training.precision, place)
    warm_epochs = job.config.warmup.epochs
    average = moving_average(learner, training.ema)

    def batch_loss(batch: Batch) -> Tensor:
        matcher = learner.model
        images = matcher.encode_image(batch.image_features)
        texts = matcher.encode_text(batch.tokens, batch.lengths)
        loss = learner.first if state.epoch < warm_epochs else learner.loss
        with autocast(place, torch.float32):
            return loss(matcher.similarity(images, texts), batch.positives)

    def kept() -> Any:
        """The matcher that is evaluated and written: the average where there is one."""
        return learner.model if average is None else average.module.model

    def evaluate() -> dict[str, float]:
        images = _embed_pictures(kept(), val.pictures, place, dtype)
        texts = embed_tokens(kept(), val.take_tokens, val.lengths, place, dtype)
        owner = val.pictures.dataset.image_of_caption
        vectors = Embeddings(images, texts, owner, learner.model.similarity.name)
        return flatten(score_embeddings(vectors))

    def save_best(metrics: dict[str, float]) -> None:
        write_model(job.run / MODEL_FILE, replace(job.header, metrics=metrics), own_tensors(kept()))

    return Task(learner, batches_of(job), batch_loss, evaluate, SCORE, save_best, average)


def moving_average(learner: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of all weights, where there is to be one."""
    if not decay:
        return None
    return AveragedModel(learner, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def _embed_pictures(matcher: Any, pictures: Pictures, device: str, dtype: torch.dtype) -> np.ndarray:
    """(images, embed_dim) float32, of the features or of the files."""
    if pictures.features is not None:
        return embed_features(matcher, pictures.features.numpy(), device, dtype)
    assert pictures.backbone is not None
    embed = partial(embed_features, matcher, device=device, dtype=dtype)
    rows = []
    for path, vector in file_vectors(pictures.backbone, embed, device, dtype, pictures.paths):
        if isinstance(vector, str):
            raise BadData(f"{path} can no longer be read: {vector}", "bring it back and go on with --resume")
        rows.append(vector)
    return np.stack(rows)


def batches_of(job: Job) -> EpochBatches:
    """Batches of the training split, as the settings want them."""
    training, pictures = job.config.training, job.train.pictures
    owner = torch.from_numpy(pictures.dataset.image_of_caption)
    plan = Plan(job.train.lengths, owner, training.batch_size, training.seed, training.whole_images)
    plan = replace(plan, one_caption=job.config.captioning.one_caption)
    if pictures.features is not None:
        return CaptionBatches(pictures.features.to(job.device), job.train.take_tokens, plan)
    assert pictures.backbone is not None
    numbered = CaptionBatches(torch.arange(len(pictures.paths)), job.train.take_tokens, plan)
    opener = pixel_opener(pictures.paths, pictures.backbone, _augmentation(job.config))
    return PixelBatches(numbered, opener, training.seed, job.device)


def _augmentation(config: Config) -> Augmentation:
    """What is done to pictures that are opened for training. Raises ConfigError."""
    wanted = config.augmentation
    try:
        return Augmentation(scale=(wanted.min_area, 1.0), flip=wanted.flip, jitter=wanted.jitter)
    except ValueError as error:
        raise ConfigError(f"the augmentation cannot be done: {error}", "see the [augmentation] settings") from error


def _losses(config: Config) -> tuple[Loss, Loss]:
    """The loss of the first ``warmup.epochs`` epochs, and that of the others."""
    first, loss = (catalog.build("loss", part.name, part.args) for part in (config.warmup.loss, config.loss))
    return first, loss


def pace_of(config: Config, steps_per_epoch: int, device: str) -> Pace:
    """How long, how fast, in which number format."""
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
        keep_start=training.keep_start,
    )


def _lr_factor(config: Config, steps_per_epoch: int) -> Any:
    plan = config.schedule
    epochs = config.training.epochs
    return build_schedule(plan.name, steps_per_epoch, epochs, plan.warmup_steps, plan.step_epochs, plan.gamma)

"""What both objectives share: the ``Job``, its splits, batches, moving average and loop settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xmodal_cli.captioning.tags import with_tags
from xmodal_cli.config import Config
from xmodal_cli.data.augmentation import Augmentation
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.features.image_features import ImageFeatures
from xmodal_cli.features.pixels import pixel_opener
from xmodal_cli.models.assembly import Sizes, Towers
from xmodal_cli.models.model_file import ModelHeader
from xmodal_cli.models.token_batches import GatherTokens, pad_tokens
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.regions import REGION_COLUMNS
from xmodal_cli.reporter import Reporter
from xmodal_cli.training.batches import BatchPlan, CaptionBatches
from xmodal_cli.training.loop import EpochBatches, LoopConfig
from xmodal_cli.training.optimizer import build_optimizer, build_schedule
from xmodal_cli.training.pixel_batches import PixelBatches


@dataclass(frozen=True)
class Job:
    """A training that is ready to start: settings, data, and what the model's file will say of it."""

    config: Config
    run: Path
    train: Split
    val: Split
    header: ModelHeader
    towers: Towers
    compute: Compute  # resolved
    reporter: Reporter
    language: dict[str, Tensor] | None = None  # weights of a pretrained language model, for a captioner that has one


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


def moving_average(learner: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of all weights, where there is to be one."""
    if not decay:
        return None
    return AveragedModel(learner, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def build_batches(job: Job) -> EpochBatches:
    """Batches of the training split, as the settings want them."""
    training, pictures = job.config.training, job.train.pictures
    owner = torch.from_numpy(pictures.dataset.image_of_caption)
    plan = BatchPlan(job.train.lengths, owner, training.batch_size, training.seed, training.whole_images)
    plan = replace(plan, one_caption=job.config.captioning.one_caption)
    if pictures.features is not None:
        return CaptionBatches(pictures.features.to(job.compute.device), job.train.gather_tokens, plan)
    assert pictures.backbone is not None
    numbered = CaptionBatches(torch.arange(len(pictures.paths)), job.train.gather_tokens, plan)
    opener = pixel_opener(pictures.paths, pictures.backbone, _augmentation(job.config))
    return PixelBatches(numbered, opener, training.seed, job.compute.device)


def _augmentation(config: Config) -> Augmentation:
    """What is done to pictures that are opened for training. Raises ConfigError."""
    wanted = config.augmentation
    try:
        return Augmentation(scale=(wanted.min_area, 1.0), flip=wanted.flip, jitter=wanted.jitter)
    except ValueError as error:
        raise ConfigError(f"the augmentation cannot be done: {error}", "see the [augmentation] settings") from error


def build_loop_config(config: Config, steps_per_epoch: int, compute: Compute) -> LoopConfig:
    """How long, how fast, in which number format."""
    training, optimizer = config.training, config.optimizer
    return LoopConfig(
        epochs=training.epochs,
        patience=training.patience,
        grad_clip=optimizer.grad_clip,
        lr=optimizer.lr,
        lr_factor=_lr_factor(config, steps_per_epoch),
        seed=training.seed,
        compute=compute,
        log_every=training.log_every,
        keep_start=training.keep_start,
    )


def _lr_factor(config: Config, steps_per_epoch: int) -> Any:
    plan = config.schedule
    epochs = config.training.epochs
    return build_schedule(plan.name, steps_per_epoch, epochs, plan.warmup_steps, plan.step_epochs, plan.gamma)


@dataclass(frozen=True)
class Split:
    """Pictures and captions: ``gather_tokens`` gives rows of captions, ``lengths`` is (captions,) int64.

    ``prompts`` (captions,) int64: how many of a caption's tokens are given to a captioner, after the start mark.
    """

    pictures: ImageFeatures
    gather_tokens: GatherTokens
    lengths: Tensor
    prompts: Tensor | None = None


def whole_captions(
    captions: Sequence[str], tokenizer: Tokenizer, tags: float, seed: int
) -> tuple[GatherTokens, Tensor, Tensor]:
    """Captions as a captioner learns them, from start to end mark, a share with ``tags``; lengths, and the tags'."""
    encoded, prompts = with_tags(tokenizer, tokenizer.encode_captions(captions), tags, seed)
    return (*pad_tokens(encoded), torch.tensor(prompts))

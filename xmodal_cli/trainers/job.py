"""A prepared training run, the ``Job``, and what all objectives build from it: batches, average, training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn, optim
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from xmodal_cli.config import Config
from xmodal_cli.data.augmentation import Augmentation
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError
from xmodal_cli.features.image_features import ImageFeatures
from xmodal_cli.features.mapped_rows import MappedRows
from xmodal_cli.features.pixels import pixel_opener
from xmodal_cli.models.assembly import Sizes, Towers
from xmodal_cli.models.model_file import ModelHeader
from xmodal_cli.models.token_batches import GatherTokens
from xmodal_cli.models.tokenizer import Tokenizer
from xmodal_cli.regions import REGION_COLUMNS
from xmodal_cli.reporter import Reporter
from xmodal_cli.settings import check_settings
from xmodal_cli.trainers import small_data
from xmodal_cli.training.batches import BatchPlan, CaptionBatches, EpochBatches
from xmodal_cli.training.distributed import SINGLE, ProcessGroup
from xmodal_cli.training.optimizer import build_optimizer, build_schedule
from xmodal_cli.training.pixel_batches import PixelBatches
from xmodal_cli.training.recomputation import recompute_blocks
from xmodal_cli.training.step import TrainStep
from xmodal_cli.training.task import Task
from xmodal_cli.training.windows import Blocks


@dataclass(frozen=True)
class Split:
    """The images of a split, and their captions as tokens or text states.

    ``gather_tokens`` gives rows of captions, ``lengths`` is (captions,) int64. ``prompt_lengths`` (captions,) int64:
    the number of tokens after BOS that are given to a captioner as a prompt and not learned. ``prompts`` are the tokens
    after BOS of each image, for evaluation with predicted tags. Of a tagger, ``gather_tokens`` gives rows of targets.
    """

    images: ImageFeatures
    gather_tokens: GatherTokens
    lengths: Tensor
    prompt_lengths: Tensor | None = None
    prompts: Sequence[Sequence[int]] = ()


@dataclass(frozen=True)
class Job:
    """A training run that is ready to start: settings, data, and the header of the model file."""

    config: Config
    run: Path
    train: Split
    val: Split
    header: ModelHeader
    tokenizer: Tokenizer
    towers: Towers
    compute: Compute  # resolved
    reporter: Reporter
    group: ProcessGroup = SINGLE
    init_from: str | None = None  # name of the model whose weights training starts from
    language_model: dict[str, Tensor] | None = None  # pretrained weights of a captioner's language model
    adapted: Mapping[str, float] = field(default_factory=dict)  # settings that a small dataset changes

    @property
    def effective_config(self) -> Config:
        """The settings with those that were adapted to a small dataset; ``config`` has them as they were given."""
        return small_data.apply(self.config, self.adapted)


def trial_sizes(config: Config, width: int) -> Sizes:
    """Small sizes to build an architecture with before the data are known."""
    image_dim = width + (len(REGION_COLUMNS) if config.features.kind == "regions" else 0)
    return Sizes(image_dim, config.features.kind, 8, width if config.text.backbone else 0)


def check_training(config: Config) -> None:
    """Check optimizer, schedule, moving average and augmentation. Raises ConfigError, UnknownName."""
    optimizer = config.optimizer
    build_optimizer([nn.Parameter(torch.zeros(1))], optimizer.name, optimizer.lr, optimizer.weight_decay)
    _build_lr_factor(config, 1)
    check_settings(config)
    if config.optimizer.image_tower_lr_scale:
        _build_augmentation(config)


def build_average(model: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of all weights, None for a decay of 0."""
    if not decay:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]


def recompute_towers(job: Job) -> None:
    """With ``gradient_checkpointing``, recompute the blocks of a fine-tuned image tower in the backward pass."""
    if job.config.training.gradient_checkpointing:
        for network, is_tuned in job.towers.get("image", ()):
            if is_tuned:
                recompute_blocks(network)


def plan_batches(config: Config, lengths: Tensor, image_of_caption: Tensor, blocks: Blocks | None = None) -> BatchPlan:
    """The batches of captions with (captions,) int64 lengths and images."""
    return BatchPlan(
        lengths=lengths,
        image_of_caption=image_of_caption,
        batch_size=config.training.batch_size,
        seed=config.training.seed,
        group_captions_by_image=config.training.group_captions_by_image,
        one_caption_per_image=config.captioning.one_caption_per_image,
        blocks=blocks,
    )


def blocks_of(features: Tensor | MappedRows | None) -> Blocks | None:
    """The blocks of features on disk, None for others."""
    return Blocks(features.block_of_image, features.blocks_per_window) if isinstance(features, MappedRows) else None


def plan_split(config: Config, split: Split) -> BatchPlan:
    """The batches of a split, in windows of blocks for features on disk and for ``training.shuffle_window``."""
    images, window = split.images, config.training.shuffle_window
    blocks = blocks_of(images.features)
    if images.features is None and window:
        blocks = Blocks.of_images(len(images.dataset.examples), window)
    return plan_batches(config, split.lengths, torch.from_numpy(images.dataset.image_of_caption), blocks)


def build_batches(job: Job) -> EpochBatches:
    """The batches of the training split, from features in memory or on disk, or from image files."""
    config, images = job.config, job.train.images
    plan = plan_split(config, job.train)
    part, split_images = job.group.part, config.kind == "captioner"
    if images.features is not None:
        features = images.features.to(job.compute.device)
        return CaptionBatches(features, job.train.gather_tokens, plan, part, split_images)
    assert images.backbone is not None
    positions = torch.arange(len(images.paths))
    numbered = CaptionBatches(positions, job.train.gather_tokens, plan, part, split_images)
    opener = pixel_opener(images.paths, images.backbone, _build_augmentation(config))
    return PixelBatches(numbered, opener, config.training.seed, job.compute.device)


def build_train_step(config: Config, task: Task, optimizer: optim.Optimizer, compute: Compute) -> TrainStep:
    """The training step with the schedule and gradient clipping of the settings; ``compute`` is resolved."""
    lr_factor = _build_lr_factor(config, len(task.batches))
    return TrainStep(task, optimizer, lr_factor, config.optimizer.grad_clip, compute, config.optimizer.l2_penalty)


def _build_lr_factor(config: Config, steps_per_epoch: int) -> Callable[[int], float]:
    schedule, epochs = config.schedule, config.training.epochs
    return build_schedule(
        schedule.name, steps_per_epoch, epochs, schedule.warmup_steps, schedule.step_epochs, schedule.gamma
    )


def _build_augmentation(config: Config) -> Augmentation:
    """The augmentation of images that are trained on from pixels. Raises ConfigError."""
    settings = config.augmentation
    try:
        return Augmentation(scale=(settings.min_area, 1.0), flip=settings.flip, jitter=settings.jitter)
    except ValueError as error:
        raise ConfigError(f"invalid augmentation: {error}", "see the [augmentation] settings") from error

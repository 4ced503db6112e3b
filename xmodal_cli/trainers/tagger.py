"""The objective of a tagger: a multi-label loss over the tags of an image, validated by mean average precision."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn, optim

from xmodal_cli import catalog
from xmodal_cli.captioning.tag_vocabulary import choose_tags, tag_targets
from xmodal_cli.config import Config
from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.tag_scores import score_tags
from xmodal_cli.features.image_features import ImageFeatures
from xmodal_cli.features.mapped_rows import MappedRows, select_rows
from xmodal_cli.inference.models import describe_as
from xmodal_cli.inference.taggers import BATCH, tag_probabilities
from xmodal_cli.models.assembly import build_tagger, describe_captioner
from xmodal_cli.models.model_file import write_model
from xmodal_cli.models.token_batches import padded
from xmodal_cli.models.towers import trainable_state_dict
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.trainers.initialization import initialize
from xmodal_cli.trainers.job import Job, Split, blocks_of, build_average, check_training, recompute_towers, trial_sizes
from xmodal_cli.trainers.val_metric import tag_metric
from xmodal_cli.training.batches import Batch, ImageBatches
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.optimizer import build_optimizer, group_parameters
from xmodal_cli.training.task import Task
from xmodal_cli.types import ImageTextDataset, TagLoss

POOLED_AT_ONCE = 256  # images


class TrainableTagger(nn.Module):
    """Everything that is trained: the tagger, its parameters named as those of a ``TrainableMatcher``."""

    def __init__(self, tagger: nn.Module) -> None:
        super().__init__()
        self.model = tagger

    @property
    def pools_once(self) -> bool:
        """Whether it is trained on features that were pooled before."""
        return bool(getattr(self.model, "has_fixed_pooling", False))

    def logits(self, inputs: Tensor) -> Tensor:
        """(images, tags) from features, or from pooled ones if it ``pools_once``."""
        return cast(Tensor, self.model.classify(inputs) if self.pools_once else self.model(inputs))  # type: ignore[operator]


class TaggerObjective:
    """See ``trainers.objective.Objective``."""

    def check(self, config: Config) -> None:
        """Build all parts with small sizes. Raises ConfigError, UnknownName."""
        width = config.model.embed_dim or 16
        build_tagger(describe_captioner(replace(config.model, embed_dim=width), trial_sizes(config, 16)))
        _build_loss(config)
        check_training(config)
        tag_metric(config.training.metric)
        if config.optimizer.image_tower_lr_scale and not config.features.tuned_blocks:
            hint = "set features.tuned_blocks to the number of last blocks to train, for example 3"
            raise ConfigError("a tagger's image tower is trained above a cached trunk, not from pixels", hint)
        if config.warmup.epochs:
            raise ConfigError("a tagger has no warm-up by another loss", "set warmup.epochs=0")

    def build_model(self, job: Job) -> TrainableTagger:
        """The tagger on its tower."""
        return TrainableTagger(build_tagger(job.header.architecture, job.towers))

    def build_optimizer(self, config: Config, model: nn.Module) -> optim.Adam | optim.AdamW:
        """The optimizer over everything that is not frozen; the tower has a learning-rate multiplier."""
        settings = config.optimizer

        def lr_scale(name: str) -> float:
            return settings.image_tower_lr_scale if ".tower." in name else 1.0

        groups = group_parameters(model, lr_scale, settings.weight_decay)
        return build_optimizer(groups, settings.name, settings.lr, settings.weight_decay)

    def build_task(self, job: Job, state: LoopState) -> Task:
        """The targets of a batch are its ``tokens``."""
        model = self.build_model(job)
        initialize(model.model, job)
        model.to(job.compute.device)
        train, val = (_inputs(model, split) for split in (job.train, job.val))
        average = build_average(model, job.effective_config.training.ema)
        recompute_towers(job)
        evaluated = model if average is None else cast(TrainableTagger, average.module)
        loss, group = _build_loss(job.config), job.group
        soft = job.config.tagging.soft_targets

        def batch_loss(batch: Batch) -> Tensor:
            logits = group.gather(model.logits(batch.image_features), len(batch.tokens))
            targets = batch.tokens if soft else (batch.tokens > 0).float()
            with job.compute.autocast(enabled=False):
                return loss(logits.float(), targets)

        def evaluate() -> dict[str, float]:
            return _evaluate(evaluated, val, job)

        def save_best(metrics: dict[str, float]) -> None:
            header = replace(job.header, metrics=metrics)
            write_model(job.run / MODEL_FILE, header, trainable_state_dict(evaluated.model))

        return Task(
            model,
            _build_batches(train, job),
            group.parallel_loss(model, batch_loss),
            evaluate,
            tag_metric(job.config.training.metric),
            save_best,
            average,
            digits=3,
        )


def find_tags(config: Config, train: ImageTextDataset, init_from: str | None) -> list[str]:
    """The tags of the model to initialize from, or the content words of the training captions.

    Raises BadData if there are no tags, and the errors of ``describe_model``.
    """
    if init_from is not None:
        info = describe_as("tagger", init_from, "initialize from a tagger: `xmodal models list` shows the kinds")
        return [str(tag) for tag in info.header.architecture["tags"]]
    captions = [example.captions for example in train.examples]
    return choose_tags(captions, config.tagging.num_tags, config.tagging.min_images)


def tag_split(images: ImageFeatures, tags: list[str]) -> Split:
    """The images of a split; its one row per image has the targets."""
    targets = torch.from_numpy(tag_targets([example.captions for example in images.dataset.examples], tags))
    return Split(images, padded(targets), torch.ones(len(targets), dtype=torch.int64))


def _targets(split: Split) -> Tensor:
    """(images, tags)"""
    return split.gather_tokens(torch.arange(len(split.lengths)), 2**31)


@torch.no_grad()
def _inputs(model: TrainableTagger, split: Split) -> Tensor | MappedRows:
    """What the model is trained or evaluated on: the features of the split, or pooled ones, (images, dim) float32."""
    features = split.images.features
    assert features is not None
    if not model.pools_once:
        return features
    device = next(model.parameters()).device
    pool: Any = model.model.pool
    return torch.cat([pool(batch.to(device)).cpu() for batch in split.images.batches(POOLED_AT_ONCE)])


def _build_batches(features: Tensor | MappedRows, job: Job) -> ImageBatches:
    training, device = job.config.training, job.compute.device
    targets = _targets(job.train).to(device)
    blocks, part = blocks_of(features), job.group.part
    return ImageBatches(features.to(device), targets, training.batch_size, training.seed, part, blocks)


def _evaluate(model: TrainableTagger, inputs: Tensor | MappedRows, job: Job) -> dict[str, float]:
    """The metrics of the val split, of which each process has some batches."""
    group = job.group
    rows = group.blocks(len(inputs), BATCH)
    own = inputs if group.size == 1 else select_rows(inputs, torch.tensor(rows, dtype=torch.int64))
    probabilities = group.merge(rows, list(tag_probabilities(model.logits, own, job.compute)) if len(own) else [])
    metrics = score_tags(np.stack(probabilities), _targets(job.val).numpy() > 0) if group.is_main else None
    return cast(dict[str, float], group.broadcast(metrics))


def _build_loss(config: Config) -> TagLoss:
    loss: Any = catalog.build("tag_loss", config.loss.name, config.loss.args)
    return cast(TagLoss, loss)

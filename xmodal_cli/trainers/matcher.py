"""The objective of a matcher: a loss over in-batch scores, validated by rsum or another metric."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn, optim

from xmodal_cli import catalog
from xmodal_cli.config import Config
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError
from xmodal_cli.evaluation.scoring import Embeddings, flatten, score_embeddings
from xmodal_cli.features.image_features import ImageFeatures
from xmodal_cli.features.mapped_rows import select_rows
from xmodal_cli.inference.encoding import file_vectors
from xmodal_cli.inference.matchers import embed_features, embed_tokens
from xmodal_cli.losses.metric_learning import ProxyLoss
from xmodal_cli.models.assembly import build_matcher, describe
from xmodal_cli.models.model_file import write_model
from xmodal_cli.models.towers import trainable_state_dict
from xmodal_cli.models.word_vectors import check_word_vectors
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.trainers.initialization import initialize
from xmodal_cli.trainers.job import Job, build_average, build_batches, check_training, recompute_towers, trial_sizes
from xmodal_cli.trainers.local_loss import check_local_losses, local_loss
from xmodal_cli.trainers.val_metric import retrieval_metric
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.optimizer import build_optimizer, group_parameters, lower_lr
from xmodal_cli.training.recomputation import check_chunks, in_chunks
from xmodal_cli.training.task import BatchLoss, Task
from xmodal_cli.types import AnchorLoss, Loss, Matcher, Unreadable


class TrainableMatcher(nn.Module):
    """Everything that is trained: the matcher, and losses that have weights of their own."""

    def __init__(self, matcher: nn.Module, warmup_loss: Loss, loss: Loss) -> None:
        super().__init__()
        self.model = matcher
        self.first, self.loss = warmup_loss, loss

    @property
    def matcher(self) -> Matcher:
        """The matcher without the losses."""
        return cast(Matcher, self.model)


class MatcherObjective:
    """See ``trainers.objective.Objective``."""

    def check(self, config: Config) -> None:
        """Build all parts with small sizes. Raises ConfigError, UnknownName, MissingData."""
        width = config.model.embed_dim or 16
        build_matcher(describe(replace(config.model, embed_dim=width), trial_sizes(config, width)))
        _check_losses(config, _build_losses(config, 2, width))
        check_training(config)
        retrieval_metric(config.training.metric)
        _check_word_vectors(config)

    def build_model(self, job: Job) -> TrainableMatcher:
        """The matcher on its towers, and the losses."""
        architecture, num_images = job.header.architecture, len(job.train.images.dataset.examples)
        losses = _build_losses(job.config, num_images, architecture["embed_dim"])
        return TrainableMatcher(build_matcher(architecture, job.towers), *losses)

    def build_optimizer(self, config: Config, model: nn.Module) -> optim.Adam | optim.AdamW:
        """The optimizer over everything that is not frozen; towers and losses have multipliers of the rate."""
        settings = config.optimizer
        tower_scales = {"image_encoder": settings.image_tower_lr_scale, "text_encoder": settings.text_tower_lr_scale}

        def lr_scale(name: str) -> float:
            if name.startswith(("first.", "loss.")):
                return settings.loss_lr_scale
            _, encoder, *inner = name.split(".")
            return tower_scales[encoder] if "tower" in inner else 1.0

        groups = group_parameters(model, lr_scale, settings.weight_decay)
        return build_optimizer(groups, settings.name, settings.lr, settings.weight_decay)

    def build_task(self, job: Job, state: LoopState) -> Task:
        """The first ``warmup.epochs`` epochs, as counted by ``state``, use the warm-up loss."""
        model = self.build_model(job)
        initialize(model.model, job)
        model.to(job.compute.device)
        average = build_average(model, job.effective_config.training.ema)
        recompute_towers(job)
        evaluated = model if average is None else cast(TrainableMatcher, average.module)

        metric = retrieval_metric(job.config.training.metric)

        def evaluate() -> dict[str, float]:
            return metric.add_to(_evaluate(evaluated.matcher, job))

        def save_best(metrics: dict[str, float]) -> None:
            header = replace(job.header, metrics=metrics)
            write_model(job.run / MODEL_FILE, header, trainable_state_dict(evaluated.model))

        batch_loss = _build_batch_loss(model, job, state)
        return Task(
            model,
            build_batches(job),
            batch_loss,
            evaluate,
            metric.name,
            save_best,
            average,
            lower_is_better=metric.lower_is_better,
        )


def _build_batch_loss(model: TrainableMatcher, job: Job, state: LoopState) -> BatchLoss:
    warmup_epochs, matcher, group = job.effective_config.warmup.epochs, model.matcher, job.group
    chunk_size, local = job.config.training.chunk_size, job.config.training.local_loss
    check_chunks(model, chunk_size)

    def batch_loss(batch: Batch) -> Tensor:
        images = in_chunks(matcher.encode_image, chunk_size, batch.image_features)
        texts = in_chunks(matcher.encode_text, chunk_size, batch.tokens, batch.lengths)
        images, texts = group.gather(images, batch.num_images, not local), group.gather(texts, batch.size, not local)
        loss = model.first if state.epoch < warmup_epochs else model.loss
        with job.compute.autocast(enabled=False):
            if local:
                return local_loss(cast(AnchorLoss, loss), matcher.similarity, images, texts, batch, group, chunk_size)
            with group.same_random_numbers(images.device):
                if isinstance(loss, ProxyLoss):
                    return _proxy_loss(loss, images, texts, batch)
                return loss(matcher.similarity(images, texts), batch.positives)

    return group.parallel_loss(model, batch_loss)


def _evaluate(matcher: Matcher, job: Job) -> dict[str, float]:
    """The retrieval metrics of the val split, by flat names; each process embeds a part of the split."""
    group, val = job.group, job.val
    num_images, num_captions = len(val.images.dataset.examples), len(val.lengths)
    own_images, own_captions = group.shard(torch.arange(num_images)), group.shard(torch.arange(num_captions))
    images = group.gather_array(_embed_images(matcher, val.images, own_images, job.compute), num_images)

    def gather_tokens(rows: Tensor, length: int) -> Tensor:
        return val.gather_tokens(own_captions[rows], length)

    texts = group.gather_array(
        embed_tokens(matcher, gather_tokens, val.lengths[own_captions], job.compute), num_captions
    )
    metrics = None
    if group.is_main:
        _warn_of_collapse(job, images=images, texts=texts)
        image_of_caption = val.images.dataset.image_of_caption
        metrics = flatten(score_embeddings(Embeddings(images, texts, image_of_caption, matcher.similarity.name)))
    return cast(dict[str, float], group.broadcast(metrics))


def _warn_of_collapse(job: Job, **vectors: np.ndarray) -> None:
    """Warn if all vectors of a kind are equal: every score is a tie then, and the metrics mean nothing."""
    for kind, rows in vectors.items():
        if len(rows) > 1 and not np.ptp(rows, axis=0).any():
            lower = f"--set optimizer.lr={lower_lr(job.config.optimizer.lr):g}"
            job.reporter.warn(f"all {kind} of val have the same vector: try a lower learning rate, for example {lower}")


def _embed_images(matcher: Matcher, images: ImageFeatures, rows: Tensor, compute: Compute) -> np.ndarray:
    """(rows,) int64 -> (rows, embed_dim) float32, from the features or from the files."""
    if images.features is not None:
        own = images.features if len(rows) == len(images.features) else select_rows(images.features, rows)
        return embed_features(matcher, own, compute)
    assert images.backbone is not None
    embed = partial(embed_features, matcher, compute=compute)
    paths, vectors = [images.paths[row] for row in rows.tolist()], []
    for path, vector in file_vectors(images.backbone, embed, compute, paths):
        if isinstance(vector, Unreadable):
            raise BadData(f"{path} can no longer be read: {vector.reason}", "restore the file and resume with --resume")
        vectors.append(vector)
    return np.stack(vectors)


def _proxy_loss(loss: ProxyLoss, images: Tensor, texts: Tensor, batch: Batch) -> Tensor:
    """The classes are the positions of the images in the training data."""
    assert batch.images is not None
    classes = batch.images.to(images.device)
    value: Tensor = loss(images, texts, classes, classes[batch.image_of_caption])
    return value


def _build_losses(config: Config, num_images: int, embed_dim: int) -> tuple[Loss, Loss]:
    """The loss of the first ``warmup.epochs`` epochs, and that of the others. The sizes are those of proxies."""
    sizes = {"num_images": num_images, "embed_dim": embed_dim}
    parts = (config.warmup.loss, config.loss)
    warmup_loss, loss = (catalog.build("loss", part.name, part.args, **sizes) for part in parts)
    return warmup_loss, loss


def _check_losses(config: Config, losses: tuple[Loss, Loss]) -> None:
    if config.training.local_loss:
        check_local_losses(config, losses)
    if config.model.similarity.name != "cosine" and any(isinstance(loss, ProxyLoss) for loss in losses):
        raise ConfigError(
            f"losses with proxies compare cosines, not the similarity {config.model.similarity.name}",
            "set model.similarity=cosine, or choose another loss",
        )


def _check_word_vectors(config: Config) -> None:
    if not config.text.word_vectors:
        return
    if config.text.backbone:
        raise ConfigError(
            "a pretrained sentence encoder has its own words", "leave out text.word_vectors or text.backbone"
        )
    check_word_vectors(Path(config.text.word_vectors))

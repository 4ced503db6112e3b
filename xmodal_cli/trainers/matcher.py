"""What a training optimises, made of its settings: matcher and losses, batches, evaluation, optimiser, pace."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn, optim

from xmodal_cli import catalog
from xmodal_cli.config import Config
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.evaluation.scoring import Embeddings, flatten, score_embeddings
from xmodal_cli.features.image_features import ImageFeatures
from xmodal_cli.inference.encoding import file_vectors
from xmodal_cli.inference.matchers import embed_features, embed_tokens
from xmodal_cli.models.assembly import build_matcher, describe
from xmodal_cli.models.model_file import write_model
from xmodal_cli.models.towers import trainable_state_dict
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.trainers.job import Job, build_batches, check_pace, moving_average, small_sizes
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.checkpoint import LoopState
from xmodal_cli.training.loop import Task
from xmodal_cli.training.optimizer import build_optimizer, group_parameters
from xmodal_cli.types import Loss, Unreadable

SCORE = "rsum"


class TrainableMatcher(nn.Module):
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


def build_learner(job: Job) -> TrainableMatcher:
    """The matcher with fresh weights but for its towers, and the losses."""
    return TrainableMatcher(build_matcher(job.header.architecture, job.towers), *_losses(job.config))


def optimizer_of(config: Config, learner: TrainableMatcher) -> optim.Adam | optim.AdamW:
    """The optimiser over everything that is not frozen, the towers at their share of the learning rate."""
    settings = config.optimizer
    shares = {"image_encoder": settings.image_tower, "text_encoder": settings.text_tower}

    def share(name: str) -> float:
        _, encoder, *inner = name.split(".")
        return shares[encoder] if "tower" in inner else 1.0

    groups = group_parameters(learner, share, settings.weight_decay)
    return build_optimizer(groups, settings.name, settings.lr, settings.weight_decay)


def build_task(job: Job, learner: TrainableMatcher, state: LoopState) -> Task:
    """What the loop needs. ``state`` tells the epoch, which decides between the first loss and the other."""
    training, val, compute = job.config.training, job.val, job.compute
    warm_epochs = job.config.warmup.epochs
    average = moving_average(learner, training.ema)

    def batch_loss(batch: Batch) -> Tensor:
        matcher = learner.model
        images = matcher.encode_image(batch.image_features)
        texts = matcher.encode_text(batch.tokens, batch.lengths)
        loss = learner.first if state.epoch < warm_epochs else learner.loss
        with compute.autocast(enabled=False):
            return loss(matcher.similarity(images, texts), batch.positives)

    def kept() -> Any:
        """The matcher that is evaluated and written: the average where there is one."""
        return learner.model if average is None else average.module.model

    def evaluate() -> dict[str, float]:
        images = _embed_pictures(kept(), val.pictures, compute)
        texts = embed_tokens(kept(), val.gather_tokens, val.lengths, compute)
        owner = val.pictures.dataset.image_of_caption
        vectors = Embeddings(images, texts, owner, learner.model.similarity.name)
        return flatten(score_embeddings(vectors))

    def save_best(metrics: dict[str, float]) -> None:
        write_model(job.run / MODEL_FILE, replace(job.header, metrics=metrics), trainable_state_dict(kept()))

    return Task(learner, build_batches(job), batch_loss, evaluate, SCORE, save_best, average)


def _embed_pictures(matcher: Any, pictures: ImageFeatures, compute: Compute) -> np.ndarray:
    """(images, embed_dim) float32, of the features or of the files."""
    if pictures.features is not None:
        return embed_features(matcher, pictures.features.numpy(), compute)
    assert pictures.backbone is not None
    embed = partial(embed_features, matcher, compute=compute)
    rows = []
    for path, vector in file_vectors(pictures.backbone, embed, compute, pictures.paths):
        if isinstance(vector, Unreadable):
            raise BadData(f"{path} can no longer be read: {vector.reason}", "bring it back and go on with --resume")
        rows.append(vector)
    return np.stack(rows)


def _losses(config: Config) -> tuple[Loss, Loss]:
    """The loss of the first ``warmup.epochs`` epochs, and that of the others."""
    first, loss = (catalog.build("loss", part.name, part.args) for part in (config.warmup.loss, config.loss))
    return first, loss


def check_word_vectors(config: Config) -> None:
    """Tell before anything is computed what can be told. Raises ConfigError, MissingData."""
    if not config.text.word_vectors:
        return
    if config.text.backbone:
        raise ConfigError(
            "a pretrained sentence encoder has its own words", "leave out text.word_vectors or text.backbone"
        )
    if not Path(config.text.word_vectors).is_file():
        raise MissingData(f"there is no file {config.text.word_vectors}", "give a GloVe or word2vec text file")

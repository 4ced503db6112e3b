"""Batches of a matcher without negatives, and batches that do not fit in memory: refused before any work is done."""

from __future__ import annotations

import numpy as np
import torch

from xmodal_cli import catalog
from xmodal_cli.config import Config
from xmodal_cli.errors import ConfigError
from xmodal_cli.losses.metric_learning import PROXY_LOSSES
from xmodal_cli.memory import available_bytes, format_bytes
from xmodal_cli.reporter import Reporter
from xmodal_cli.trainers.job import plan_batches
from xmodal_cli.types import ImageTextDataset

WARNED_SHARE = 0.25  # of the batches of an epoch
SCORE_COPIES = 6  # (captions, captions) float32 arrays that a loss over in-batch scores has at once, with gradients


def check_batches(config: Config, dataset: ImageTextDataset, device: str, reporter: Reporter) -> None:
    """Raise ConfigError if no batch of a matcher has a negative pair, or if a batch cannot fit in memory.

    Reports a warning if many batches have none: those train nothing.
    """
    if config.kind != "matcher":
        return
    if not device.startswith("cuda"):
        _check_memory(config, len(dataset.captions))
    image_of_caption = np.asarray(dataset.image_of_caption)
    lengths = torch.tensor([len(caption.split()) for caption in dataset.captions])
    batches = plan_batches(config, lengths, torch.from_numpy(image_of_caption)).epoch(0)
    if _has_proxies(config) and len(np.unique(image_of_caption)) > 1:
        return  # the proxies of other images are the negatives
    without = sum(len(np.unique(image_of_caption[rows.numpy()])) == 1 for rows in batches)
    if without == len(batches):
        raise _no_negatives(config, image_of_caption)
    if without > WARNED_SHARE * len(batches):
        reporter.warn(
            f"{without} of {len(batches)} batches have captions of one image only, and train nothing: "
            "increase training.batch_size"
        )


def _has_proxies(config: Config) -> bool:
    """Whether the loss compares with weights of all training images instead of the batch."""
    return catalog.canonical(config.loss.name) == "metric-learning" and config.loss.args.get("loss") in PROXY_LOSSES


def _no_negatives(config: Config, image_of_caption: np.ndarray) -> ConfigError:
    counts = np.bincount(image_of_caption)
    if np.count_nonzero(counts) == 1:
        return ConfigError(
            "the training data has captions of one image only: without negatives nothing can be learned",
            "train on two images or more, or set data.train_splits to splits that have them",
        )
    needed = 2 * int(counts.max()) if config.training.group_captions_by_image else 32
    return ConfigError(
        f"with training.batch_size={config.training.batch_size} every batch has captions of one image only: without "
        "negatives nothing can be learned",
        f"increase it, for example --set training.batch_size={max(needed, 32)}",
    )


def _check_memory(config: Config, num_captions: int) -> None:
    """Compare the scores at once, (anchors, captions) in several copies, with the memory that is available."""
    available = available_bytes()
    size = anchors = min(config.training.batch_size, num_captions)
    if config.training.local_loss:
        anchors = min(config.training.chunk_size or size, size)  # the processes of a machine share its memory
    needed = 4 * SCORE_COPIES * size * anchors
    if available is None or needed <= available:
        return
    fits = int((available / (4 * SCORE_COPIES)) ** 0.5)
    raise ConfigError(
        f"a batch of {size:,} captions needs about {format_bytes(needed)} for its scores, and "
        f"{format_bytes(available)} are available",
        "set training.local_loss=true and a training.chunk_size, or decrease it, for example "
        f"--set training.batch_size={max(1, min(fits // 2, 4096))}",
    )

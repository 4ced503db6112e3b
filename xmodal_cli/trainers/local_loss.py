"""The loss of a batch in parts, each with the scores of some anchors and all candidates: ``training.local_loss``.

Its memory is linear in the size of the batch, where that of all scores is quadratic. It is ``--local-loss
--gather-with-grad`` of open_clip, and on one process a loss in chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from xmodal_cli.config import Config
from xmodal_cli.errors import ConfigError
from xmodal_cli.process_sum import sum_over_processes
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.distributed import ProcessGroup
from xmodal_cli.training.recomputation import recomputed
from xmodal_cli.types import AnchorLoss, Loss

Similarity = Callable[[Tensor, Tensor], Tensor]


def local_loss(
    loss: AnchorLoss,
    similarity: Similarity,
    images: Tensor,
    texts: Tensor,
    batch: Batch,
    group: ProcessGroup,
    chunk_size: int,
) -> Tensor:
    """(images, dim) and (captions, dim) of the whole batch -> scalar, the loss of the whole batch.

    This process computes the scores of its own images and captions, ``chunk_size`` at a time; 0: all at once.
    """
    image_of_caption = batch.image_of_caption

    def of_images(anchors: Tensor) -> Tensor:
        return loss.of_anchors(similarity(images[anchors], texts), image_of_caption[None, :] == anchors[:, None])

    def of_captions(anchors: Tensor) -> Tensor:
        positives = image_of_caption[anchors][:, None] == torch.arange(len(images), device=images.device)[None, :]
        return loss.of_anchors(similarity(images, texts[anchors]).T, positives)

    total = texts.new_zeros(())
    for of_anchors, count in ((of_images, len(images)), (of_captions, len(texts))):
        for anchors in _chunks(torch.arange(count, device=images.device)[group.part(count)], chunk_size):
            total = total + (recomputed(of_anchors, anchors) if chunk_size else of_anchors(anchors))
    return sum_over_processes(total) / loss.num_terms(len(texts))


def check_local_losses(config: Config, losses: Sequence[Loss]) -> None:
    """Raise ConfigError for losses that are not sums over anchors."""
    names = (config.warmup.loss.name, config.loss.name)
    for name, loss in zip(names, losses, strict=True):
        if not isinstance(loss, AnchorLoss):
            hint = "use infonce, sigmoid or triplet, or set training.local_loss=false"
            raise ConfigError(f"training.local_loss does not work with {name}, which needs all scores at once", hint)


def _chunks(anchors: Tensor, size: int) -> Sequence[Tensor]:
    return torch.split(anchors, size) if size else [anchors]

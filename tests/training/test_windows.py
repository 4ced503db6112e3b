"""Batches of features on disk: a permutation, local, well shuffled, and the same as from memory in the same order."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from xmodal_cli.models.token_batches import padded
from xmodal_cli.training.batches import BatchPlan, CaptionBatches, ImageBatches
from xmodal_cli.training.windows import Blocks, prefetch

IMAGES, PER_WINDOW, ROWS = 2000, 8, 10  # windows of 80 images
BLOCKS = Blocks(torch.arange(IMAGES) // ROWS, PER_WINDOW)
OWNER = torch.arange(IMAGES).repeat_interleave(5)
LENGTHS = torch.from_numpy(np.random.default_rng(0).integers(3, 20, len(OWNER)))


def plan(seed=0, **settings):
    return BatchPlan(LENGTHS, OWNER, 4, seed, blocks=BLOCKS, **settings)


@pytest.mark.parametrize("grouped", [False, True])
def test_every_caption_comes_once_an_epoch(grouped):
    batches = plan(group_captions_by_image=grouped).epoch(1)
    assert torch.cat(batches).sort().values.tolist() == list(range(len(OWNER)))
    assert grouped or all(len(batch) == 4 for batch in batches)


def test_one_caption_of_each_image():
    drawn = torch.cat(plan(one_caption_per_image=True).epoch(0))
    assert OWNER[drawn].sort().values.tolist() == list(range(IMAGES))


def test_the_order_depends_only_on_seed_and_epoch():
    def order(seed, epoch):
        return torch.cat(plan(seed).epoch(epoch)).tolist()

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_the_captions_of_an_image_are_near_each_other_and_images_are_not():
    order = OWNER[torch.cat(plan().epoch(0))]
    at = torch.empty(IMAGES, 2, dtype=torch.int64)
    for n, image in enumerate(order.tolist()[::-1]):
        at[image, 0] = len(order) - 1 - n
    for n, image in enumerate(order.tolist()):
        at[image, 1] = n
    window, pool = ROWS * PER_WINDOW * 5, 50 * 4
    assert (at[:, 1] - at[:, 0]).max() <= window + 2 * pool  # it is read within one window
    displacement = (order.argsort(stable=True)[::5] / 5 - torch.arange(IMAGES)).abs().mean() / IMAGES
    assert 0.28 < displacement < 0.39  # a third is that of a random permutation
    neighbors = (order[1:] - order[:-1]).abs().float().mean() / IMAGES
    assert neighbors > 0.25


def test_batches_from_rows_on_disk_are_those_from_memory():
    class OnDisk:
        """Rows as ``MappedRows`` reads them, with the thread that reads them."""

        device = "cpu"

        def __len__(self):
            return IMAGES

        def __getitem__(self, rows):
            threads.add(threading.get_ident())
            return features[rows]

    threads = set()
    features = torch.randn(IMAGES, 3)
    gather = padded(torch.ones(len(OWNER), 20, dtype=torch.int64))
    on_disk = OnDisk()
    for left, right in zip(
        CaptionBatches(features, gather, plan()).epoch(2),
        CaptionBatches(on_disk, gather, plan()).epoch(2),
        strict=True,
    ):
        assert torch.equal(left.image_features, right.image_features)
        assert torch.equal(left.image_of_caption, right.image_of_caption)
    assert threading.get_ident() not in threads


def test_images_come_once_an_epoch():
    batches = ImageBatches(torch.zeros(IMAGES, 2), torch.zeros(IMAGES, 3), 32, 0, blocks=BLOCKS)
    drawn = torch.cat([batch.images for batch in batches.epoch(0)])
    assert drawn.sort().values.tolist() == list(range(IMAGES))
    assert len(torch.unique(BLOCKS.block_of_image[drawn[:80]])) == PER_WINDOW


def test_an_error_of_the_reading_thread_is_raised():
    def failing():
        yield 1
        raise OSError("disk")

    batches = prefetch(failing())
    assert next(batches) == 1
    with pytest.raises(OSError, match="disk"):
        next(batches)

"""Pixel batches: what is opened depends on seed, epoch and image alone; memory is bounded; errors reach the loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from xmodal_cli.errors import BadData
from xmodal_cli.training.batches import Batch
from xmodal_cli.training.pixel_batches import AHEAD, PixelBatches

NUM_IMAGES = 23


class Numbered:
    """Every image once an epoch, four at a time, in an order of the epoch's own."""

    def __len__(self) -> int:
        return (NUM_IMAGES + 3) // 4

    def epoch(self, number: int) -> Iterator[Batch]:
        order = torch.randperm(NUM_IMAGES, generator=torch.Generator().manual_seed(number))
        for images in torch.split(order, 4):
            size = len(images)
            yield Batch(images, images[:, None], torch.ones(size, dtype=torch.int64), torch.arange(size))


def noisy(number, random):
    """An image whose pixels are its position and two random numbers."""
    image = torch.full((3, 2, 2), number, dtype=torch.uint8)
    image[2] = random.randrange(256)
    image[1] = random.randrange(256)
    return image


def load_all(batches, epoch):
    """Image number -> its pixels."""
    return {int(n): p for b in batches.epoch(epoch) for n, p in zip(b.tokens[:, 0], b.image_features, strict=True)}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def test_every_image_comes_with_its_own_pixels_in_the_order_of_the_plan():
    batches = PixelBatches(Numbered(), noisy, seed=0)
    drawn, planned = list(batches.epoch(2)), list(Numbered().epoch(2))
    assert len(drawn) == len(batches) == len(planned)
    for batch, plan in zip(drawn, planned, strict=True):
        assert batch.image_features.dtype == torch.uint8 and batch.image_features.shape[1:] == (3, 2, 2)
        assert batch.image_features[:, 0, 0, 0].tolist() == plan.image_features.tolist()
        for name in ("tokens", "lengths", "image_of_caption"):
            assert torch.equal(getattr(batch, name), getattr(plan, name))


def test_augmentation_depends_only_on_seed_epoch_and_image():
    first = load_all(PixelBatches(Numbered(), noisy, seed=0, num_threads=1), 5)
    again = PixelBatches(Numbered(), noisy, seed=0, num_threads=7)
    load_all(again, 1)  # earlier epochs do not matter, so a resumed run gets the same
    assert same(first, load_all(again, 5)) and same(first, load_all(again, 5))
    assert not same(first, load_all(again, 6))
    assert not same(first, load_all(PixelBatches(Numbered(), noisy, seed=1), 5))
    assert len({tuple(p[1:, 0, 0].tolist()) for p in first.values()}) > NUM_IMAGES // 2  # images differ


def test_the_global_generators_are_left_alone():
    import random

    random.seed(0)
    before, torch_before = random.getstate(), torch.get_rng_state()
    load_all(PixelBatches(Numbered(), noisy, seed=0), 0)
    assert random.getstate() == before and torch.equal(torch_before, torch.get_rng_state())


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_reaches_the_loop_at_its_batch_and_ends_the_threads(threads):
    def opener(number, random):
        if number == 9:
            raise BadData("dog.jpg cannot be opened: it is cut off", "replace it")
        return noisy(number, random)

    planned = [batch.image_features.tolist() for batch in Numbered().epoch(0)]
    seen = 0
    with pytest.raises(BadData, match=r"dog\.jpg"):
        for _ in PixelBatches(Numbered(), opener, seed=0, num_threads=threads).epoch(0):
            seen += 1
    assert 9 in planned[seen]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pixels")]


def test_prefetching_is_bounded():
    opened: list[int] = []

    def opener(number, random):
        opened.append(number)
        return noisy(number, random)

    epoch = PixelBatches(Numbered(), opener, seed=0, num_threads=2).epoch(0)
    next(epoch)
    epoch.close()  # an interrupted loop
    assert 4 <= len(opened) <= 4 * (AHEAD + 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("pixels")]


def test_over_the_batches_of_captions():
    from xmodal_cli.models.token_batches import padded
    from xmodal_cli.training.batches import BatchPlan, CaptionBatches

    image_of_caption = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    plan = BatchPlan(torch.ones(7, dtype=torch.int64), image_of_caption, 3, 0, group_captions_by_image=True)
    numbered = CaptionBatches(torch.arange(4), padded(torch.arange(7)[:, None]), plan)
    found = []
    for batch in PixelBatches(numbered, noisy, seed=0).epoch(1):
        images = batch.image_features[:, 0, 0, 0]
        captions = batch.tokens[:, 0]
        assert torch.equal(batch.positives, images[:, None] == image_of_caption[captions][None, :])
        found += captions.tolist()
    assert sorted(found) == list(range(7))

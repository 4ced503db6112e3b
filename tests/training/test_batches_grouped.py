"""Batches of whole images: each image once an epoch with all its captions, whatever their number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xmodal_cli.models.token_batches import padded
from xmodal_cli.training.batches import BatchPlan, CaptionBatches

COUNTS = {
    "five each": [5] * 23,
    "uneven": np.random.default_rng(0).integers(1, 8, 40).tolist(),
    "some without captions": [3, 0, 2, 0, 0, 4, 1, 5, 0],
    "more than a batch": [2, 17, 1, 9, 3],
    "one image": [4],
    "one caption each": [1] * 30,
}


def images_of_captions(counts: list[int], shuffled: bool = True) -> torch.Tensor:
    image_of_caption = np.repeat(np.arange(len(counts)), counts)
    return torch.from_numpy(np.random.default_rng(1).permutation(image_of_caption) if shuffled else image_of_caption)


def plan(image_of_caption: torch.Tensor, batch_size: int = 8, seed: int = 0) -> BatchPlan:
    lengths = torch.from_numpy(np.random.default_rng(2).integers(1, 12, len(image_of_caption)))
    return BatchPlan(lengths, image_of_caption, batch_size, seed, group_captions_by_image=True)


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_every_image_comes_once_an_epoch_with_all_its_captions(counts, shuffled):
    image_of_caption = images_of_captions(counts, shuffled)
    for epoch in range(4):
        batches = plan(image_of_caption).epoch(epoch)
        assert sorted(torch.cat(batches).tolist()) == list(range(len(image_of_caption)))
        seen = [set(image_of_caption[batch].tolist()) for batch in batches]
        assert sum(len(images) for images in seen) == sum(count > 0 for count in counts)
        assert set().union(*seen) == {image for image, count in enumerate(counts) if count}


@pytest.mark.parametrize("batch_size", [1, 4, 8, 100])
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
def test_batches_are_full_and_only_an_image_that_fills_one_alone_is_larger(counts, batch_size):
    image_of_caption = images_of_captions(counts)
    sizes = []
    for batch in plan(image_of_caption, batch_size).epoch(2):
        images = set(image_of_caption[batch].tolist())
        assert len(batch) <= batch_size or len(images) == 1
        sizes.append((len(batch), max(counts[image] for image in images)))
    assert all(size > 0 for size, _ in sizes)
    # an image that does not fit ends a batch, so two successive batches are never much smaller than one
    most = max(counts)
    assert sum(size + most <= batch_size for size, _ in sizes) <= 1


def test_every_epoch_has_the_same_length_where_images_have_equally_many_captions():
    image_of_caption = images_of_captions([5] * 23)
    batches = plan(image_of_caption, 16)  # three images at a time
    assert len(batches) == 8
    assert [len(batches.epoch(n)) for n in range(5)] == [8] * 5


def test_the_order_of_an_epoch_depends_only_on_seed_and_number():
    image_of_caption = images_of_captions(COUNTS["uneven"])

    def drawn(seed: int, epoch: int) -> list[list[int]]:
        return [batch.tolist() for batch in plan(image_of_caption, seed=seed).epoch(epoch)]

    torch.manual_seed(1)
    first = drawn(0, 5)
    torch.manual_seed(2)
    drawn(0, 1)
    before = torch.get_rng_state()
    assert drawn(0, 5) == first
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn(0, 6) != first
    assert drawn(1, 5) != first


def test_other_epochs_bring_other_images_together():
    image_of_caption = images_of_captions([2] * 60)
    together = [
        {frozenset(image_of_caption[batch].tolist()) for batch in plan(image_of_caption, 12).epoch(n)} for n in range(2)
    ]
    assert len(together[0] & together[1]) <= 1


def test_batches_have_each_image_once_and_the_right_positives():
    image_of_caption = images_of_captions(COUNTS["some without captions"])
    tokens = torch.arange(len(image_of_caption))[:, None].expand(-1, 12)  # a caption's tokens are its number
    features = torch.arange(9)[:, None].float()
    for batch in CaptionBatches(features, padded(tokens), plan(image_of_caption)).epoch(0):
        images = batch.image_features[:, 0].int().tolist()
        captions = batch.tokens[:, 0].tolist()
        assert len(set(images)) == len(images)
        assert batch.positives.tolist() == [[int(image_of_caption[c]) == image for c in captions] for image in images]
        assert batch.positives.sum(1).tolist() == [COUNTS["some without captions"][image] for image in images]

"""Batches: every caption once, the same plan each time, the right positives, little padding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xmodal_cli.models.token_batches import padded
from xmodal_cli.training.batches import BatchPlan, CaptionBatches
from xmodal_cli.training.distributed import ProcessGroup


def numbered(lengths, image_of_caption, batch_size, seed=0, **parts):
    """Captions whose first token is their own position."""
    lengths, image_of_caption = torch.tensor(lengths), torch.tensor(image_of_caption)
    tokens = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
    tokens = tokens.long() * 1000
    tokens[:, 0] = torch.arange(len(lengths))
    features = torch.arange(int(image_of_caption.max()) + 1)[:, None].float()  # an image's feature is its position
    return CaptionBatches(features, padded(tokens), BatchPlan(lengths, image_of_caption, batch_size, seed), **parts)


@pytest.mark.parametrize(("num", "batch_size"), [(1, 4), (4, 4), (103, 8), (1000, 7), (5, 100)])
def test_every_caption_comes_once_an_epoch(num, batch_size):
    rng = np.random.default_rng(0)
    batches = numbered(rng.integers(1, 12, num), rng.integers(0, 30, num), batch_size)
    drawn = list(batches.epoch(3))
    assert len(drawn) == len(batches) == -(-num // batch_size)
    assert sorted(c for batch in drawn for c in batch.tokens[:, 0].tolist()) == list(range(num))
    assert all(len(batch.tokens) <= batch_size for batch in drawn)
    assert sum(len(batch.tokens) < batch_size for batch in drawn) == (num % batch_size > 0)


def test_the_order_of_an_epoch_depends_only_on_seed_and_number(make_batches):
    def plan(seed, epoch):
        return [batch.tokens.tolist() for batch in make_batches(seed=seed).epoch(epoch)]

    torch.manual_seed(1)
    first = plan(0, 5)
    torch.manual_seed(2)
    batches = make_batches(seed=0)
    list(batches.epoch(1))  # earlier epochs do not matter
    assert first == [batch.tokens.tolist() for batch in batches.epoch(5)]
    assert first != plan(0, 6)
    assert first != plan(1, 5)


def test_planning_leaves_the_global_generator_alone(make_batches):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(make_batches().epoch(0))
    assert torch.equal(before, torch.get_rng_state())


def test_positives_are_the_captions_of_each_image():
    image_of_caption = [4, 4, 0, 2, 2, 2, 4, 1]
    batches = numbered([3] * 8, image_of_caption, 5)
    repeated = 0
    for epoch in range(5):
        for batch in batches.epoch(epoch):
            images = batch.image_features[:, 0].int().tolist()
            captions = batch.tokens[:, 0].tolist()
            assert len(set(images)) == len(images)
            assert set(images) == {image_of_caption[c] for c in captions}
            assert batch.positives.shape == (len(images), len(captions))
            for row, image in enumerate(images):
                assert batch.positives[row].tolist() == [image_of_caption[c] == image for c in captions]
            repeated += len(images) < len(captions)
    assert repeated


def test_padding_is_cut_to_the_longest_of_the_batch():
    lengths = [1, 2, 3, 9, 4, 2, 2, 8, 5, 1]
    for batch in numbered(lengths, list(range(10)), 3).epoch(0):
        assert batch.tokens.shape[1] == batch.lengths.max()
        assert batch.lengths.tolist() == [lengths[c] for c in batch.tokens[:, 0].tolist()]
        inside = torch.arange(batch.tokens.shape[1])[None, :] < batch.lengths[:, None]
        assert ((batch.tokens[:, 1:] != 0) == inside[:, 1:]).all()


def test_captions_of_like_length_go_together_and_batches_come_in_no_order():
    lengths = np.random.default_rng(0).integers(2, 30, 2000)
    batches = list(numbered(lengths, np.zeros(2000, np.int64), 20).epoch(0))
    padded = sum(batch.tokens.numel() for batch in batches)
    assert padded < 1.05 * lengths.sum()
    means = [batch.lengths.float().mean().item() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


def test_other_epochs_mix_other_captions():
    lengths = np.random.default_rng(0).integers(2, 6, 400)
    batches = numbered(lengths, np.zeros(400, np.int64), 10)
    together = [{frozenset(b.tokens[:, 0].tolist()) for b in batches.epoch(n)} for n in range(2)]
    assert not together[0] & together[1]


@pytest.mark.parametrize("size", [2, 9])
def test_parts_have_images_with_all_of_their_captions(size):
    rng = np.random.default_rng(0)
    captions = rng.integers(1, 9, 50), np.repeat(np.arange(20), rng.multinomial(50, [1 / 20] * 20))
    groups = [ProcessGroup(rank, size) for rank in range(size)]
    parts = [numbered(*captions, 6, part=group.part, split_images=True) for group in groups]
    for batch, *own in zip(numbered(*captions, 6).epoch(1), *(part.epoch(1) for part in parts), strict=True):
        counted = [part for part in own if not part.is_stand_in]
        assert torch.equal(torch.cat([part.images for part in counted]), batch.images)
        assert sorted(torch.cat([part.captions for part in counted]).tolist()) == sorted(batch.captions.tolist())
        assert all(part.size == batch.size for part in own)
        assert all(not part.lengths.any() for part in own if part.is_stand_in)

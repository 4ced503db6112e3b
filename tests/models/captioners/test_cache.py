"""The cache of keys and values: what a row sees, and that no branch sees another's slots."""

from __future__ import annotations

import pytest
import torch

from xmodal_cli.models.captioners._cache import ROOM, BeamMask, SlotCache


def slots(*numbers: float, images: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of one head of one coordinate that hold ``numbers``, the values negated."""
    keys = torch.tensor(numbers)[None, None, :, None].expand(images, -1, -1, -1)
    return keys, -keys


def held(cache: SlotCache) -> list[float]:
    assert torch.equal(cache.keys, -cache.values)
    assert torch.equal(cache.keys[0], cache.keys[-1])
    return cache.keys[0, 0, :, 0].tolist()


def test_a_row_sees_the_shared_slots_its_ancestors_and_its_own():
    ancestry = BeamMask.of_start(1, 2, torch.device("cpu")).grown()  # slots 0, 1 shared, slot 2 the first word's
    ancestry = ancestry.select(torch.tensor([[0, 0, 0]])).grown()  # slots 3, 4, 5
    ancestry = ancestry.select(torch.tensor([[2, 0]])).grown()  # slots 6, 7
    seen = [set(row.nonzero().flatten().tolist()) for row in ancestry.mask[0]]
    assert seen == [{0, 1, 2, 5, 6}, {0, 1, 2, 3, 7}]


def test_images_choose_their_own_parents():
    ancestry = BeamMask.of_start(2, 0, torch.device("cpu")).grown().select(torch.tensor([[0, 0], [0, 0]])).grown()
    chosen = ancestry.select(torch.tensor([[1, 0], [0, 0]])).mask.int().tolist()
    assert chosen == [[[1, 0, 1], [1, 1, 0]], [[1, 1, 0], [1, 1, 0]]]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_branches_of_a_cache_never_see_each_other(mode):
    with mode():
        root = SlotCache(*slots(1.0, 2.0))
        left = root.append(*slots(3.0))
        right = root.append(*slots(4.0, 5.0))
        leaf, other = left.append(*slots(6.0)), left.append(*slots(7.0))
        assert [held(c) for c in (root, left, right, leaf, other)] == [
            [1, 2],
            [1, 2, 3],
            [1, 2, 4, 5],
            [1, 2, 3, 6],
            [1, 2, 3, 7],
        ]


def test_a_cache_grows_beyond_its_room_and_is_written_in_place_within_it():
    with torch.inference_mode():
        cache = first = SlotCache(*slots(0.0)).append(*slots(1.0))
        for number in range(2, 3 * ROOM):
            cache = cache.append(*slots(float(number)))
            if number == ROOM:
                assert cache.keys.data_ptr() == first.keys.data_ptr()
        assert held(cache) == list(range(3 * ROOM))
        assert held(first) == [0, 1]


def test_a_cache_made_in_inference_mode_goes_on_outside_of_it():
    with torch.inference_mode():
        cache = SlotCache(*slots(1.0)).append(*slots(2.0))
    with torch.no_grad():
        assert held(cache.append(*slots(3.0)).append(*slots(4.0))) == [1, 2, 3, 4]


def test_gradients_reach_all_that_was_appended():
    keys = torch.ones(1, 1, 2, 3, requires_grad=True)
    more = torch.ones(1, 1, 1, 3, requires_grad=True)
    cache = SlotCache(keys, keys).append(more, more)
    (cache.keys.sum() + 2 * cache.values.sum()).backward()
    assert torch.equal(keys.grad, torch.full_like(keys, 3.0))
    assert torch.equal(more.grad, torch.full_like(more, 3.0))


def test_rows_of_a_cache():
    cache = SlotCache(torch.arange(3.0).view(3, 1, 1, 1), torch.zeros(3, 1, 1, 1)).of_rows(torch.tensor([2, 0, 2]))
    assert cache.keys.flatten().tolist() == [2, 0, 2]

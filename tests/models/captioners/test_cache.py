"""The KV cache: the slots that a row attends to, and that branches of a cache are independent."""

from __future__ import annotations

import pytest
import torch

from xmodal_cli.models.captioners._cache import MIN_FREE_SLOTS, BeamMask, SlotCache


def slots(*key_values: float, images: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of one head of dimension 1; keys are ``key_values``, values are their negatives."""
    keys = torch.tensor(key_values)[None, None, :, None].expand(images, -1, -1, -1)
    return keys, -keys


def keys_of(cache: SlotCache) -> list[float]:
    assert torch.equal(cache.keys, -cache.values)
    assert torch.equal(cache.keys[0], cache.keys[-1])
    return cache.keys[0, 0, :, 0].tolist()


def test_a_row_attends_to_shared_slots_and_those_of_its_ancestors():
    beam_mask = BeamMask.initial(1, 2, torch.device("cpu")).add_slots()  # slots 0, 1 shared, slot 2 of the first word
    beam_mask = beam_mask.select(torch.tensor([[0, 0, 0]])).add_slots()  # slots 3, 4, 5
    beam_mask = beam_mask.select(torch.tensor([[2, 0]])).add_slots()  # slots 6, 7
    attended = [set(row.nonzero().flatten().tolist()) for row in beam_mask.mask[0]]
    assert attended == [{0, 1, 2, 5, 6}, {0, 1, 2, 3, 7}]


def test_parents_are_selected_per_image():
    beam_mask = (
        BeamMask.initial(2, 0, torch.device("cpu")).add_slots().select(torch.tensor([[0, 0], [0, 0]])).add_slots()
    )
    selected = beam_mask.select(torch.tensor([[1, 0], [0, 0]])).mask.int().tolist()
    assert selected == [[[1, 0, 1], [1, 1, 0]], [[1, 1, 0], [1, 1, 0]]]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_branches_of_a_cache_are_independent(mode):
    with mode():
        root = SlotCache(*slots(1.0, 2.0))
        left = root.append(*slots(3.0))
        right = root.append(*slots(4.0, 5.0))
        leaf, other = left.append(*slots(6.0)), left.append(*slots(7.0))
        assert [keys_of(c) for c in (root, left, right, leaf, other)] == [
            [1, 2],
            [1, 2, 3],
            [1, 2, 4, 5],
            [1, 2, 3, 6],
            [1, 2, 3, 7],
        ]


def test_appending_copies_nothing_until_the_buffer_is_full():
    with torch.inference_mode():
        cache = first = SlotCache(*slots(0.0)).append(*slots(1.0))
        for i in range(2, 3 * MIN_FREE_SLOTS):
            cache = cache.append(*slots(float(i)))
            if i == MIN_FREE_SLOTS:
                assert cache.keys.data_ptr() == first.keys.data_ptr()
        assert keys_of(cache) == list(range(3 * MIN_FREE_SLOTS))
        assert keys_of(first) == [0, 1]


def test_a_cache_from_inference_mode_can_be_extended_outside_of_it():
    with torch.inference_mode():
        cache = SlotCache(*slots(1.0)).append(*slots(2.0))
    with torch.no_grad():
        assert keys_of(cache.append(*slots(3.0)).append(*slots(4.0))) == [1, 2, 3, 4]


def test_gradients_flow_to_all_appended_slots():
    keys = torch.ones(1, 1, 2, 3, requires_grad=True)
    more = torch.ones(1, 1, 1, 3, requires_grad=True)
    cache = SlotCache(keys, keys).append(more, more)
    (cache.keys.sum() + 2 * cache.values.sum()).backward()
    assert torch.equal(keys.grad, torch.full_like(keys, 3.0))
    assert torch.equal(more.grad, torch.full_like(more, 3.0))


def test_selecting_images_of_a_cache():
    cache = SlotCache(torch.arange(3.0).view(3, 1, 1, 1), torch.zeros(3, 1, 1, 1)).select_images(
        torch.tensor([2, 0, 2])
    )
    assert cache.keys.flatten().tolist() == [2, 0, 2]

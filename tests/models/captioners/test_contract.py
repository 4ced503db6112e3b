"""What holds for every captioner: words step by step are words at once, rows go on where they are told to."""

from __future__ import annotations

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.regions import REGION_COLUMNS

VOCAB, DIM, CELLS, WIDTH = 30, 12, 9, 64
TABLE = torch.tensor([[0, 4], [1, 2], [3, 3]])  # captions of each image; image 2 has one
OWNER = torch.tensor([0, 1, 1, 2, 0])


def small(name: str, kind: str = "grid"):
    torch.manual_seed(0)
    dim = DIM + (len(REGION_COLUMNS) if kind == "regions" else 0)
    model = catalog.build("captioner", name, {}, image_dim=dim, image_kind=kind, vocab_size=VOCAB, embed_dim=WIDTH)
    return model.eval()


def pictures(kind: str = "grid") -> torch.Tensor:
    torch.manual_seed(1)
    if kind == "global":
        return torch.randn(3, DIM)
    return torch.randn(3, CELLS, DIM)


def words(longest: int = 7) -> torch.Tensor:
    return torch.randint(0, VOCAB, (len(OWNER), longest), generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=catalog.names("captioner"))
def name(request) -> str:
    return str(request.param)


@pytest.mark.parametrize("kind", ["grid", "global"])
def test_steps_give_what_teacher_forcing_gives(name, kind):
    model, tokens = small(name, kind), words()
    wanted = model(pictures(kind), OWNER, tokens).logits.log_softmax(-1)
    assert wanted.shape == (5, 7, VOCAB)
    state = model.start(pictures(kind)).select(torch.zeros(3, 2, dtype=torch.int64))
    for place in range(7):
        given, state = model.step(state, tokens[TABLE][:, :, place])
        torch.testing.assert_close(given, wanted[TABLE][:, :, place], atol=2e-5, rtol=0)
        torch.testing.assert_close(given.exp().sum(-1), torch.ones(3, 2))


def test_a_selected_row_goes_on_where_its_parent_was(name):
    model, tokens = small(name), words()
    wanted = model(pictures(), OWNER, tokens).logits.log_softmax(-1)
    rows = TABLE.clone()
    with torch.inference_mode():
        state = model.start(pictures()).select(torch.zeros(3, 2, dtype=torch.int64))
        for place in range(6):
            given, state = model.step(state, tokens[rows][:, :, place])
            torch.testing.assert_close(given, wanted[rows][:, :, place], atol=2e-5, rtol=0)
            parents = torch.tensor([[1, 0], [place % 2, 0], [1, 1]])
            if place < 2:
                state, rows = state.select(parents), rows.gather(1, parents)


def test_one_state_may_be_continued_in_two_ways(name):
    model = small(name)
    with torch.inference_mode():
        _, state = model.step(model.start(pictures()), torch.full((3, 1), 2))
        first, _ = model.step(state, torch.full((3, 1), 5))
        model.step(state, torch.full((3, 1), 9))
        again, _ = model.step(state, torch.full((3, 1), 5))
    torch.testing.assert_close(first, again)


def test_what_comes_later_changes_nothing_before(name):
    model, tokens = small(name), words()
    other = tokens.clone()
    other[:, 4:] = (other[:, 4:] + 7) % VOCAB
    before, after = (model(pictures(), OWNER, t).logits for t in (tokens, other))
    torch.testing.assert_close(before[:, :4], after[:, :4], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-3)


def test_other_images_in_the_batch_change_nothing(name):
    model, tokens = small(name), words()
    whole = model(pictures(), OWNER, tokens).logits
    alone = model(pictures()[1:2], torch.tensor([0, 0]), tokens[1:3]).logits
    torch.testing.assert_close(whole[1:3], alone, atol=2e-5, rtol=0)


def test_captions_depend_on_their_picture(name):
    model, tokens = small(name), words()
    moved = model(pictures().roll(1, 0), OWNER, tokens).logits
    assert not torch.allclose(model(pictures(), OWNER, tokens).logits, moved, atol=1e-3)


def test_padded_regions_change_nothing(name):
    model, tokens = small(name, "regions"), words()
    held = torch.rand(3, 4, DIM + len(REGION_COLUMNS), generator=torch.Generator().manual_seed(3))
    padding = torch.zeros(3, 2, held.shape[-1])
    padding[..., :DIM] = 5.0  # area 0: no region
    few = model(held, OWNER, tokens).logits
    more = model(torch.cat((held, padding), dim=1), OWNER, tokens).logits
    torch.testing.assert_close(few, more, atol=2e-5, rtol=0)


def test_every_weight_learns(name):
    model, tokens = small(name).train(), words()
    model(pictures(), OWNER, tokens).logits.log_softmax(-1)[..., 3].sum().backward()
    idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


def test_attention_is_a_distribution_over_the_cells_where_there_is_one(name):
    model = small(name)
    _, state = model.step(model.start(pictures()), torch.full((3, 1), 2))
    if state.attention is not None:
        assert state.attention.shape == (3, 1, CELLS)
        torch.testing.assert_close(state.attention.sum(-1), torch.ones(3, 1))

"""The contract of all captioners: steps equal teacher forcing, and selected rows continue their parent."""

from __future__ import annotations

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.regions import REGION_COLUMNS

VOCAB, DIM, CELLS, WIDTH = 30, 12, 9, 64
TABLE = torch.tensor([[0, 4], [1, 2], [3, 3]])  # captions of each image; image 2 has one
IMAGE_OF_CAPTION = torch.tensor([0, 1, 1, 2, 0])


def small(name: str, kind: str = "grid"):
    torch.manual_seed(0)
    dim = DIM + (len(REGION_COLUMNS) if kind == "regions" else 0)
    model = catalog.build("captioner", name, {}, image_dim=dim, image_kind=kind, vocab_size=VOCAB, embed_dim=WIDTH)
    return model.eval()


def image_features(kind: str = "grid") -> torch.Tensor:
    torch.manual_seed(1)
    if kind == "global":
        return torch.randn(3, DIM)
    return torch.randn(3, CELLS, DIM)


def words(longest: int = 7) -> torch.Tensor:
    return torch.randint(0, VOCAB, (len(IMAGE_OF_CAPTION), longest), generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=catalog.names("captioner"))
def name(request) -> str:
    return str(request.param)


@pytest.mark.parametrize("kind", ["grid", "global"])
def test_steps_equal_teacher_forcing(name, kind):
    model, tokens = small(name, kind), words()
    expected = model(image_features(kind), IMAGE_OF_CAPTION, tokens).logits.log_softmax(-1)
    assert expected.shape == (5, 7, VOCAB)
    state = model.start(image_features(kind)).select(torch.zeros(3, 2, dtype=torch.int64))
    for i in range(7):
        actual, state = model.step(state, tokens[TABLE][:, :, i])
        torch.testing.assert_close(actual, expected[TABLE][:, :, i], atol=2e-5, rtol=0)
        torch.testing.assert_close(actual.exp().sum(-1), torch.ones(3, 2))


def test_a_selected_row_continues_its_parent(name):
    model, tokens = small(name), words()
    expected = model(image_features(), IMAGE_OF_CAPTION, tokens).logits.log_softmax(-1)
    rows = TABLE.clone()
    with torch.inference_mode():
        state = model.start(image_features()).select(torch.zeros(3, 2, dtype=torch.int64))
        for i in range(6):
            actual, state = model.step(state, tokens[rows][:, :, i])
            torch.testing.assert_close(actual, expected[rows][:, :, i], atol=2e-5, rtol=0)
            parents = torch.tensor([[1, 0], [i % 2, 0], [1, 1]])
            if i < 2:
                state, rows = state.select(parents), rows.gather(1, parents)


def test_a_state_can_be_continued_twice(name):
    model = small(name)
    with torch.inference_mode():
        _, state = model.step(model.start(image_features()), torch.full((3, 1), 2))
        first, _ = model.step(state, torch.full((3, 1), 5))
        model.step(state, torch.full((3, 1), 9))
        again, _ = model.step(state, torch.full((3, 1), 5))
    torch.testing.assert_close(first, again)


def test_later_words_do_not_affect_earlier_logits(name):
    model, tokens = small(name), words()
    other = tokens.clone()
    other[:, 4:] = (other[:, 4:] + 7) % VOCAB
    before, after = (model(image_features(), IMAGE_OF_CAPTION, t).logits for t in (tokens, other))
    torch.testing.assert_close(before[:, :4], after[:, :4], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-3)


def test_other_images_in_the_batch_change_nothing(name):
    model, tokens = small(name), words()
    together = model(image_features(), IMAGE_OF_CAPTION, tokens).logits
    alone = model(image_features()[1:2], torch.tensor([0, 0]), tokens[1:3]).logits
    torch.testing.assert_close(together[1:3], alone, atol=2e-5, rtol=0)


def test_captions_depend_on_their_image(name):
    model, tokens = small(name), words()
    rolled = model(image_features().roll(1, 0), IMAGE_OF_CAPTION, tokens).logits
    assert not torch.allclose(model(image_features(), IMAGE_OF_CAPTION, tokens).logits, rolled, atol=1e-3)


def test_padded_regions_change_nothing(name):
    model, tokens = small(name, "regions"), words()
    regions = torch.rand(3, 4, DIM + len(REGION_COLUMNS), generator=torch.Generator().manual_seed(3))
    padding = torch.zeros(3, 2, regions.shape[-1])
    padding[..., :DIM] = 5.0  # area 0 means padding
    expected = model(regions, IMAGE_OF_CAPTION, tokens).logits
    actual = model(torch.cat((regions, padding), dim=1), IMAGE_OF_CAPTION, tokens).logits
    torch.testing.assert_close(expected, actual, atol=2e-5, rtol=0)


def test_every_weight_gets_a_gradient(name):
    model, tokens = small(name).train(), words()
    model(image_features(), IMAGE_OF_CAPTION, tokens).logits.log_softmax(-1)[..., 3].sum().backward()
    without_gradient = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without_gradient


def test_attention_is_a_distribution_over_the_cells(name):
    model = small(name)
    _, state = model.step(model.start(image_features()), torch.full((3, 1), 2))
    if state.attention is not None:
        assert state.attention.shape == (3, 1, CELLS)
        torch.testing.assert_close(state.attention.sum(-1), torch.ones(3, 1))

"""Standardization of features: statistics of the training batches, and no update in evaluation mode."""

from __future__ import annotations

import torch

from xmodal_cli import catalog
from xmodal_cli.models.captioners import _standardize
from xmodal_cli.models.captioners._standardize import Standardize
from xmodal_cli.regions import REGION_COLUMNS

GEOMETRY = torch.rand(3, 4, 5)


def test_mean_and_std_are_those_of_all_batches() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(3, 4, 5) * torch.arange(1.0, 6) + 7 for _ in range(6)]
    standardize = Standardize(5).train()
    for batch in batches:
        standardize(batch, GEOMETRY, torch.ones(3, 4, dtype=torch.bool))
    all_cells = torch.cat(batches).flatten(0, 1)
    actual, _ = standardize.eval()(batches[0], GEOMETRY, torch.ones(3, 4, dtype=torch.bool))
    expected = (batches[0] - all_cells.mean(0)) / all_cells.std(0, unbiased=False)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_evaluation_updates_nothing_and_padding_is_ignored() -> None:
    standardize, mask = Standardize(2), torch.tensor([[True, True, False]])
    geometry = torch.tensor([0.0, 0.5, 1.0])[None, :, None].expand(1, 3, 5)
    cells = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [99.0, 99.0]]])
    before = {name: value.clone() for name, value in standardize.state_dict().items()}
    standardize.eval()(cells, geometry, mask)
    assert all(torch.equal(value, before[name]) for name, value in standardize.state_dict().items())
    actual, scaled_geometry = standardize.train()(cells, geometry, mask)
    torch.testing.assert_close(scaled_geometry[0, :, 0], torch.tensor([-0.5, 0.0, 0.5]) * _standardize.GEOMETRY_SCALE)
    torch.testing.assert_close(actual[0, :2, 0], torch.tensor([-1.0, 1.0]))
    assert torch.isfinite(actual).all()  # also for a constant feature


def test_steps_of_a_captioner_with_it_equal_teacher_forcing() -> None:
    torch.manual_seed(0)
    dim = 12 + len(REGION_COLUMNS)
    sizes = {"image_dim": dim, "image_kind": "regions", "vocab_size": 20, "embed_dim": 64}
    model = catalog.build("captioner", "standardized-transformer", {}, **sizes)
    regions = torch.rand(2, 5, dim)
    tokens = torch.randint(3, 20, (2, 4))
    model.train()(regions, torch.arange(2), tokens)
    with torch.inference_mode():
        expected = model.eval()(regions, torch.arange(2), tokens).logits.log_softmax(-1)
        state = model.start(regions)
        for i in range(4):
            log_probs, state = model.step(state, tokens[:, i : i + 1])
            torch.testing.assert_close(log_probs[:, 0], expected[:, i], atol=1e-4, rtol=1e-4)

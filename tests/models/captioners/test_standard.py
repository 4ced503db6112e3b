"""Features less their mean, by their spread: what is learnt in training, and what is left alone."""

from __future__ import annotations

import torch

from xmodal_cli import catalog
from xmodal_cli.models.captioners import _standard
from xmodal_cli.models.captioners._standard import Standardize
from xmodal_cli.regions import REGION_COLUMNS

PLACES = torch.rand(3, 4, 5)


def test_mean_and_spread_are_those_of_all_batches() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(3, 4, 5) * torch.arange(1.0, 6) + 7 for _ in range(6)]
    standardize = Standardize(5).train()
    for batch in batches:
        standardize(batch, PLACES, torch.ones(3, 4, dtype=torch.bool))
    seen = torch.cat(batches).flatten(0, 1)
    given, _ = standardize.eval()(batches[0], PLACES, torch.ones(3, 4, dtype=torch.bool))
    expected = (batches[0] - seen.mean(0)) / seen.std(0, unbiased=False)
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-4)


def test_evaluation_changes_nothing_and_padding_does_not_count() -> None:
    standardize, mask = Standardize(2), torch.tensor([[True, True, False]])
    places = torch.tensor([0.0, 0.5, 1.0])[None, :, None].expand(1, 3, 5)
    cells = torch.tensor([[[1.0, 0.0], [3.0, 0.0], [99.0, 99.0]]])
    before = {name: value.clone() for name, value in standardize.state_dict().items()}
    standardize.eval()(cells, places, mask)
    assert all(torch.equal(value, before[name]) for name, value in standardize.state_dict().items())
    given, put = standardize.train()(cells, places, mask)
    torch.testing.assert_close(put[0, :, 0], torch.tensor([-0.5, 0.0, 0.5]) * _standard.PLACES)
    torch.testing.assert_close(given[0, :2, 0], torch.tensor([-1.0, 1.0]))
    assert torch.isfinite(given).all()  # of a feature that never changes, too


def test_a_captioner_with_it_says_step_by_step_what_it_says_at_once() -> None:
    torch.manual_seed(0)
    dim = 12 + len(REGION_COLUMNS)
    given = {"image_dim": dim, "image_kind": "regions", "vocab_size": 20, "embed_dim": 64}
    model = catalog.build("captioner", "standardized-transformer", {}, **given)
    regions = torch.rand(2, 5, dim)
    tokens = torch.randint(3, 20, (2, 4))
    model.train()(regions, torch.arange(2), tokens)
    with torch.inference_mode():
        at_once = model.eval()(regions, torch.arange(2), tokens).logits.log_softmax(-1)
        state = model.start(regions)
        for place in range(4):
            log_probs, state = model.step(state, tokens[:, place : place + 1])
            torch.testing.assert_close(log_probs[:, 0], at_once[:, place], atol=1e-4, rtol=1e-4)

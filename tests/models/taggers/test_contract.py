"""The contract of all taggers: one logit per tag, for every kind of features, independent of padding and batch."""

from __future__ import annotations

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.errors import ConfigError
from xmodal_cli.regions import REGION_COLUMNS

TAGS, DIM, CELLS = 7, 12, 9


@pytest.fixture(params=catalog.names("tagger"))
def name(request) -> str:
    return str(request.param)


def small(name: str, kind: str, **args):
    torch.manual_seed(0)
    dim = DIM + (len(REGION_COLUMNS) if kind == "regions" else 0)
    return catalog.build("tagger", name, args, image_dim=dim, image_kind=kind, vocab_size=TAGS, embed_dim=16)


def image_features(kind: str) -> torch.Tensor:
    torch.manual_seed(1)
    cells = torch.randn(4, CELLS, DIM)
    return {
        "global": cells[:, 0],
        "grid": cells,
        "regions": torch.cat((cells, 0.1 + torch.rand(4, CELLS, len(REGION_COLUMNS))), -1),
    }[kind]


@pytest.mark.parametrize("kind", ["global", "grid", "regions"])
def test_logits_of_an_image_do_not_depend_on_the_batch(name, kind):
    model, features = small(name, kind).eval(), image_features(kind)
    logits = model(features)
    assert (logits.shape, logits.dtype) == ((4, TAGS), torch.float32)
    torch.testing.assert_close(model(features[2:3]), logits[2:3])
    torch.testing.assert_close(model(features.half()), logits, atol=2e-2, rtol=0)  # features are stored as float16


def test_padded_regions_do_not_matter(name):
    model, features = small(name, "regions").eval(), image_features("regions")
    padding = torch.zeros(4, 3, features.shape[-1])
    padding[..., :DIM] = 9.0
    torch.testing.assert_close(model(torch.cat((features, padding), 1)), model(features))


@pytest.mark.parametrize("images", [1, 4])
def test_every_weight_has_a_gradient_with_one_image_too(name, images):
    model = small(name, "grid").train()
    model(image_features("grid")[:images]).square().sum().backward()
    for parameter, owner in model.named_parameters():
        assert owner.grad is not None and bool(owner.grad.isfinite().all()), parameter


def test_pooling_with_weights_is_trained_and_other_pooling_is_done_once():
    assert small("pooled-mlp", "grid", pooling="mean+max").has_fixed_pooling
    assert not small("pooled-mlp", "grid", pooling="mean+gpo").has_fixed_pooling


def test_poolings_are_concatenated():
    features = image_features("grid")
    model = small("pooled-mlp", "grid", pooling="mean+max").eval()
    pooled = torch.cat((features.mean(1), features.amax(1)), 1)
    torch.testing.assert_close(model(features), model.layers(model.norm(pooled)))


@pytest.mark.parametrize("args", [{"dropout": 1.0}, {"hidden_layers": 0}])
def test_invalid_arguments(args):
    with pytest.raises(ConfigError, match=next(iter(args))):
        small("pooled-mlp", "grid", **args)

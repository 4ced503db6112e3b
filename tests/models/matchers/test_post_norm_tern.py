"""TERN as published against a naive implementation per item, from regions and the states of an encoder to scores."""

from __future__ import annotations

import pytest
import torch
from helpers.image_batches import COUNTS, DEPTH, NUM_COLUMNS, regions
from helpers.naive_networks import affine, post_norm_transformer, randomize_zeros
from helpers.text_batches import DIM as TEXT_DIM
from helpers.text_batches import SENTENCES, STATES, VOCAB, captions, with_garbage
from torch import Tensor, nn

from xmodal_cli.config import Component, ModelConfig
from xmodal_cli.config.loading import load_config
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.assembly import Sizes, build_matcher, describe


def published(embed_dim: int = 16, num_heads: int = 2) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"num_heads": num_heads, "feed_forward": 40, "dropout": 0.0}
    config = ModelConfig(
        name="post-norm-tern",
        args={"shared_layers": 2, **sizes},
        embed_dim=embed_dim,
        image_encoder=Component("post-norm-transformer", {"width": 24, "num_layers": 2, **sizes, "num_heads": 2}),
        text_encoder=Component("identity"),
    )
    model = build_matcher(describe(config, Sizes(DEPTH + NUM_COLUMNS, "regions", VOCAB, TEXT_DIM)))
    return randomize_zeros(model.eval())


def vector_of(model: nn.Module, widen: nn.Module, states: Tensor) -> Tensor:
    """The unit vector of the first state after the shared layers."""
    first = post_norm_transformer(model.shared, torch.stack([affine(widen, state.double()) for state in states]))[0]
    return first / first.square().sum().sqrt()


def test_images_and_texts_equal_the_naive_ones():
    model, features = published(), regions(COUNTS)
    tokens, lengths = captions(SENTENCES, "states")
    with torch.inference_mode():
        images = model.encode_image(features).double()
        texts = model.encode_text(with_garbage(tokens, lengths), lengths).double()
        encoder = model.image_encoder
        for vector, rows, count in zip(images, features, COUNTS, strict=True):
            given = torch.cat((torch.zeros(1, DEPTH + 5), rows[:count, : DEPTH + 5])).double()
            joined = [affine(encoder.join[2], affine(encoder.join[0], row).clamp(min=0)) for row in given]
            states = post_norm_transformer(encoder.layers, torch.stack(joined))
            torch.testing.assert_close(vector, vector_of(model, model.image_widen, states), rtol=1e-4, atol=1e-5)
        for vector, sentence in zip(texts, SENTENCES, strict=True):
            expected = vector_of(model, model.text_widen, STATES[sentence])
            torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-5)


def test_every_weight_is_trained():
    model = published()
    scores = model.similarity(model.encode_image(regions(COUNTS)), model.encode_text(*captions(SENTENCES, "states")))
    (scores * torch.randn(scores.shape)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_width_that_does_not_fit_the_heads_raises():
    with pytest.raises(ConfigError, match="a multiple of num_heads, 3, not 16"):
        published(num_heads=3)


def test_the_preset_has_the_layers_and_weights_of_the_code_of_the_authors():
    """models/visual.py and models/tern.py of github.com/mesnico/TERN, without BERT and without the layer
    ``img_enc.fc``, whose output is not used."""
    with torch.device("meta"):
        model = build_matcher(describe(load_config("tern").model, Sizes(2048 + NUM_COLUMNS, "regions", VOCAB, 768)))
        regions = [
            nn.Linear(2048 + 5, 2048),
            nn.Linear(2048, 2048),
            *(nn.TransformerEncoderLayer(2048, 4, 2048) for _ in range(4)),
        ]
        joint = [
            nn.Linear(2048, 1024),
            nn.Linear(768, 1024),
            *(nn.TransformerEncoderLayer(1024, 4, 2048) for _ in range(2)),
        ]
    assert sorted(p.shape for p in model.image_encoder.parameters()) == shapes_of(regions)
    assert sorted(p.shape for p in model.parameters()) == shapes_of([*regions, *joint])
    assert sum(p.numel() for p in model.parameters()) == 128_833_536


def shapes_of(layers: list[nn.Module]) -> list[torch.Size]:
    return sorted(p.shape for layer in layers for p in layer.parameters())

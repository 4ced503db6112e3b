"""TERN against a naive implementation per item; padding, order and batches change nothing."""

from __future__ import annotations

import pytest
import torch
from helpers.image_batches import COUNTS, DEPTH, NUM_COLUMNS, images, regions
from helpers.naive_networks import randomize_zeros, transformer
from helpers.text_batches import DIM as TEXT_DIM
from helpers.text_batches import SENTENCES, STATES, VOCAB, captions, with_garbage
from torch import Tensor, nn

from xmodal_cli import catalog
from xmodal_cli.config import Component, ModelConfig
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.assembly import Sizes, build_matcher, describe
from xmodal_cli.models.sequences import transformer_layers

WIDTH = 128  # two heads


def tern(kind: str = "regions", text: str = "identity", image: Component | None = None, **args) -> nn.Module:
    torch.manual_seed(0)
    embed_dim = int(args.pop("embed_dim", WIDTH))
    config = ModelConfig(
        name="tern",
        args={"shared_layers": 2, "dropout": 0.0, **args},
        embed_dim=embed_dim,
        image_encoder=image or Component("transformer", {"width": 64, "num_layers": 1, "dropout": 0.0}),
        text_encoder=Component(text),
    )
    sizes = Sizes(DEPTH + NUM_COLUMNS * (kind == "regions"), kind, VOCAB, TEXT_DIM)
    return randomize_zeros(build_matcher(describe(config, sizes)).eval())


def encode_images(model: nn.Module, features: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.encode_image(features)


def encode_texts(model: nn.Module, sentences: list[list[int]]) -> Tensor:
    with torch.inference_mode():
        return model.encode_text(*captions(sentences, "states"))


def normalize(vector: Tensor) -> Tensor:
    return vector / vector.square().sum().sqrt()


@pytest.mark.parametrize("kind", ["global", "grid", "regions"])
def test_image_vectors_equal_the_naive_ones(kind):
    model = tern(kind)
    features = images(kind)
    actual = encode_images(model, features)
    with torch.inference_mode():
        states, mask = model.image_encoder.states(features)  # has its own test against a naive implementation
        model.double()
        for vector, item, inside in zip(actual, states, mask, strict=True):
            widened = item[inside].double() @ model.image_widen.weight.T + model.image_widen.bias
            expected = normalize(transformer(model.shared, widened)[0])
            torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_text_vectors_equal_the_naive_ones(pooling):
    model = tern(text_pooling=pooling)
    actual = encode_texts(model, SENTENCES)
    model.double()
    with torch.inference_mode():
        for vector, sentence in zip(actual, SENTENCES, strict=True):
            widened = STATES[sentence].double() @ model.text_widen.weight.T + model.text_widen.bias
            states = transformer(model.shared, widened)
            expected = normalize(states[0] if pooling == "first" else states.mean(0))
            torch.testing.assert_close(vector.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", catalog.names("pooling"))
def test_padding_of_images_changes_nothing(pooling):
    model = tern(image_pooling=pooling)
    features = regions(COUNTS)
    expected = torch.cat([encode_images(model, features[n : n + 1, :count]) for n, count in enumerate(COUNTS)])
    torch.testing.assert_close(encode_images(model, features), expected, rtol=1e-5, atol=1e-6)
    wider = torch.cat((features, torch.zeros(len(features), 5, DEPTH + NUM_COLUMNS)), dim=1)
    torch.testing.assert_close(encode_images(model, wider), expected, rtol=1e-5, atol=1e-6)
    empty = wider[..., DEPTH + 4] == 0
    wider[..., :DEPTH][empty] = 100.0
    torch.testing.assert_close(encode_images(model, wider), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", [name for name in catalog.names("text_encoder") if name != "pooled"])
@pytest.mark.parametrize("pooling", ["first", "gpo"])
def test_padding_of_sentences_changes_nothing(text, pooling):
    model = tern(text=text, text_pooling=pooling)
    tokens, lengths = captions(SENTENCES, "states")
    with torch.inference_mode():
        actual = model.encode_text(with_garbage(tokens, lengths), lengths)
    expected = torch.cat([encode_texts(model, [sentence]) for sentence in SENTENCES])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_the_order_of_regions_does_not_matter():
    model, features = tern(), regions(COUNTS)
    order = torch.tensor([4, 6, 0, 2, 5, 1, 3])
    torch.testing.assert_close(
        encode_images(model, features[:, order]), encode_images(model, features), rtol=1e-4, atol=1e-5
    )


def test_items_of_a_batch_are_independent():
    model = tern()
    others = regions(COUNTS, seed=1)
    others[2] = regions(COUNTS)[2]
    actual, expected = encode_images(model, others)[2], encode_images(model, regions(COUNTS))[2]
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
    batch = [[2, 3], SENTENCES[0], [2, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 3]]
    torch.testing.assert_close(encode_texts(model, batch)[1], encode_texts(model, SENTENCES)[0], rtol=1e-5, atol=1e-6)


def test_only_padding_gets_no_gradient():
    model = tern()
    features = regions(COUNTS).requires_grad_()
    tokens, lengths = captions(SENTENCES, "states")
    tokens = with_garbage(tokens, lengths).requires_grad_()
    scores = model.similarity(model.encode_image(features), model.encode_text(tokens, lengths))
    (scores * torch.randn(scores.shape)).sum().backward()
    region_mask = features[..., DEPTH + 4] > 0
    assert (features.grad[~region_mask] == 0).all()
    assert (features.grad[region_mask].abs().sum(1) > 0).all()
    token_mask = torch.arange(tokens.shape[1])[None] < lengths[:, None]
    assert (tokens.grad[~token_mask] == 0).all()
    assert (tokens.grad[token_mask].abs().sum(1) > 0).all()


def test_both_sides_share_the_upper_layers():
    model = tern()
    before = encode_images(model, regions(COUNTS)), encode_texts(model, SENTENCES)
    with torch.no_grad():
        for parameter in model.shared.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    after = encode_images(model, regions(COUNTS)), encode_texts(model, SENTENCES)
    assert not any(torch.allclose(b, a, atol=1e-3) for b, a in zip(before, after, strict=True))
    parts = {name.split(".")[0] for name, _ in model.named_parameters() if "self_attn" in name}
    assert parts == {"image_encoder", "shared"}


def test_new_layers_are_the_identity():
    layers = transformer_layers(WIDTH, 2, 0.0)
    states = torch.randn(2, 5, WIDTH)
    torch.testing.assert_close(layers(states), states)


def test_states_as_wide_as_the_joint_space_are_not_widened():
    model = tern(image=Component("transformer", {"width": 64, "num_layers": 1}), embed_dim=64)
    assert isinstance(model.image_widen, nn.Identity)
    assert isinstance(model.text_widen, nn.Linear)


@pytest.mark.parametrize("image", ["linear", "pooled", "identity"])
def test_image_encoders_without_states_raise(image):
    with pytest.raises(ConfigError, match="tern needs an encoder with states"):
        tern(image=Component(image))


def test_a_text_encoder_without_states_raises():
    with pytest.raises(ConfigError, match="tern needs an encoder with states"):
        tern(text="pooled")


def test_an_invalid_width_raises():
    with pytest.raises(ConfigError, match="a multiple of 64, not 100"):
        tern(embed_dim=100)

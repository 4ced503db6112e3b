"""Contracts that every architecture, image encoder and preset keeps; a new file is tested by being there."""

from __future__ import annotations

import re

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.config import load_config
from xmodal_cli.recipes.assembly import build_matcher, describe

KINDS = ("image_encoder", "text_encoder", "similarity", "loss", "metric", "model")
IMAGE_DIM, VOCAB, EMBED_DIM = 10, 20, 8


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_module_says_what_it_is_and_can_be_built(kind):
    names = catalog.names(kind)
    assert names
    for name in names:
        module = catalog.load(kind, name)
        assert (module.__doc__ or "").strip(), f"{kind} {name} has no docstring"
        assert callable(module.build)
        assert module.build.__doc__, f"build of {kind} {name} has no docstring"
        assert "return" in module.build.__annotations__


@pytest.mark.parametrize("name", catalog.names("image_encoder"))
def test_every_image_encoder_maps_features_to_the_joint_space(name):
    torch.manual_seed(0)
    encoder = catalog.build("image_encoder", name, {}, image_dim=IMAGE_DIM, embed_dim=EMBED_DIM)
    features = torch.randn(6, IMAGE_DIM)
    vectors = encoder(features.half())
    assert vectors.shape == (6, EMBED_DIM)
    torch.testing.assert_close(vectors, encoder(features), rtol=1e-2, atol=1e-2)
    vectors.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_the_linear_image_encoder_scales_features_to_unit_length_unless_told_not_to():
    features = torch.randn(5, IMAGE_DIM)
    build = catalog.load("image_encoder", "linear").build
    scaled, plain = build(IMAGE_DIM, EMBED_DIM), build(IMAGE_DIM, EMBED_DIM, normalize=False)
    torch.testing.assert_close(scaled(features), scaled(7 * features))
    weight, bias = plain.project.weight, plain.project.bias
    torch.testing.assert_close(plain(features), features @ weight.T + bias)


@pytest.mark.parametrize("name", catalog.names("preset"))
def test_every_preset_builds_a_model_end_to_end(name):
    config = load_config(name, [f"model.embed_dim={EMBED_DIM}"])
    torch.manual_seed(0)
    model = build_matcher(describe(config.model, IMAGE_DIM, VOCAB))
    loss = catalog.build("loss", config.loss.name, config.loss.args)
    tokens = torch.randint(4, VOCAB, (5, 7))
    images = model.encode_image(torch.randn(4, IMAGE_DIM))
    texts = model.encode_text(tokens, torch.tensor([7, 3, 2, 5, 7]))
    assert (images.shape, texts.shape, model.embed_dim) == ((4, EMBED_DIM), (5, EMBED_DIM), EMBED_DIM)
    assert images.dtype == texts.dtype == torch.float32
    positives = torch.tensor([0, 1, 2, 3, 3])[None, :] == torch.arange(4)[:, None]
    value = loss(model.similarity(images, texts), positives)
    value.backward()
    assert value.item() > 0
    for parameter, owner in model.named_parameters():
        assert owner.grad is not None, parameter
        assert owner.grad.isfinite().all(), parameter


@pytest.mark.parametrize("name", catalog.names("preset"))
def test_a_presets_header_names_its_paper_and_the_command_that_runs_it(name):
    text = catalog.path("preset", name).read_text(encoding="utf-8")
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert re.search(r"arXiv \d{4}\.\d{4,5}", header)
    assert re.search(rf"xmodal train --model {re.escape(name)} --data \w+", header)
    assert "table" in header or "not a paper's" in header


def test_presets_have_their_papers_settings():
    order, vse, vsepp = (load_config(name) for name in ("order-emb", "vse", "vsepp"))
    assert order.model.similarity.name == "order"
    assert order.loss.args == {"margin": 0.05}
    assert vse.model.similarity.name == vsepp.model.similarity.name == "cosine"
    assert vse.loss.args == {"margin": 0.2}
    assert vsepp.loss.args == {"margin": 0.2, "hardest_negative": True}
    for config in (order, vse, vsepp):
        assert config.model.embed_dim == 1024
        assert config.training.batch_size == 128
        assert config.model.text_encoder.name == "gru"
        assert config.model.text_encoder.args["word_dim"] == 300

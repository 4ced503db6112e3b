"""Contracts that every architecture, part and preset keeps; a new file is tested by being there."""

from __future__ import annotations

import math
import re

import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.config import Config, load_config
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.assembly import Sizes, build_captioner, build_matcher, build_tagger, describe, describe_captioner
from xmodal_cli.regions import REGION_COLUMNS
from xmodal_cli.trainers.objective import find_objective

KINDS = ("image_encoder", "text_encoder", "pooling", "similarity", "loss", "retrieval_metric", "matcher")
KINDS += ("captioner", "language_model", "caption_loss", "caption_metric", "tagger", "tag_loss")
DEPTH = TEXT_DIM = EMBED_DIM = 8  # the identity encoders need them alike
VOCAB = 20
PRESETS = catalog.names("preset")
CAPTIONERS = [name for name in PRESETS if load_config(name).kind == "captioner"]
MATCHERS = [name for name in PRESETS if load_config(name).kind == "matcher"]
TAGGERS = [name for name in PRESETS if load_config(name).kind == "tagger"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_component_module_is_documented_and_can_be_built(kind):
    names = catalog.names(kind)
    assert names
    for name in names:
        module = catalog.load(kind, name)
        assert (module.__doc__ or "").strip(), f"{kind} {name} has no docstring"
        assert callable(module.build)
        assert module.build.__doc__, f"build of {kind} {name} has no docstring"
        assert "return" in module.build.__annotations__


def sizes_for(config: Config) -> Sizes:
    image_dim = DEPTH + (len(REGION_COLUMNS) if config.features.kind == "regions" else 0)
    return Sizes(image_dim, config.features.kind, VOCAB, TEXT_DIM if config.text.backbone else 0)


def images_for(config: Config) -> torch.Tensor:
    if config.features.kind == "global":
        return torch.randn(4, DEPTH)
    cells = torch.randn(4, 9, DEPTH)
    if config.features.kind == "regions":
        return torch.cat((cells, torch.rand(4, 9, len(REGION_COLUMNS))), -1)
    return cells


@pytest.mark.parametrize("name", MATCHERS)
def test_every_matcher_preset_builds_a_model_end_to_end(name):
    config = load_config(name, [f"model.embed_dim={EMBED_DIM}"])
    torch.manual_seed(0)
    model = build_matcher(describe(config.model, sizes_for(config)))
    loss = catalog.build("loss", config.loss.name, config.loss.args)
    tokens = torch.randn(5, 7, TEXT_DIM) if config.text.backbone else torch.randint(4, VOCAB, (5, 7))
    images = model.encode_image(images_for(config))
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


@pytest.mark.parametrize("name", TAGGERS)
def test_every_tagger_preset_builds_a_model_end_to_end(name):
    config = load_config(name, [f"model.embed_dim={EMBED_DIM}"])
    model = build_tagger(describe_captioner(config.model, sizes_for(config)))
    loss = catalog.build("tag_loss", config.loss.name, config.loss.args)
    logits = model(images_for(config))
    assert (logits.shape, logits.dtype) == ((4, VOCAB), torch.float32)
    loss(logits, torch.randint(0, 2, (4, VOCAB)).float()).backward()
    for parameter, owner in model.named_parameters():
        assert owner.grad is not None and owner.grad.isfinite().all(), parameter


@pytest.mark.parametrize("name", CAPTIONERS)
def test_every_captioner_preset_builds_a_model_end_to_end(name):
    config = load_config(name, [f"model.embed_dim={EMBED_DIM}"])
    torch.manual_seed(0)
    model = build_captioner(describe_captioner(config.model, sizes_for(config)))
    loss = catalog.build("caption_loss", config.loss.name, config.loss.args)
    tokens = torch.randint(4, VOCAB, (5, 7))
    mask = torch.arange(6)[None] < torch.tensor([6, 3, 2, 5, 6])[:, None]
    value = loss(model(images_for(config), torch.tensor([0, 1, 2, 3, 3]), tokens[:, :-1]), tokens[:, 1:], mask)
    value.backward()
    assert value.item() > 0
    for parameter, owner in model.named_parameters():
        assert owner.grad is not None, parameter
        assert owner.grad.isfinite().all(), parameter


@pytest.mark.parametrize("name", PRESETS)
def test_all_parts_of_every_preset_can_be_built_as_it_has_them(name):
    config = load_config(name)
    find_objective(config).check(config)
    if config.text.backbone:
        from xmodal_cli.backbones import text_backbones

        name = config.features.backbone if config.text.backbone == "same" else config.text.backbone
        assert any(family.supports(name) for family in text_backbones._families())


@pytest.mark.parametrize("name", PRESETS)
def test_a_presets_header_names_its_paper_and_the_command_that_runs_it(name):
    text = catalog.path("preset", name).read_text(encoding="utf-8")
    header = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    assert re.search(r"arXiv \d{4}\.\d{4,5}", header)
    assert re.search(rf"xmodal train --model {re.escape(name)} --data \w+", header)
    assert re.search(r"table \d|no published scores|This preset: ", header)  # what its scores can be compared with


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


def test_our_tern_has_its_papers_shape():
    tern = load_config("tern-grid")
    assert tern.model.name == "tern"
    assert tern.model.args["shared_layers"] >= 1
    assert tern.model.image_encoder.name == "transformer"
    assert tern.text.backbone


def test_tern_has_the_sizes_and_settings_of_its_paper():
    config = load_config("tern")
    with torch.device("meta"):
        model = build_matcher(describe(config.model, Sizes(2048 + len(REGION_COLUMNS), "regions", 0, 768)))
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters()}
    assert shapes["image_encoder.join.0.weight"] == (2048, 2053)
    assert shapes["image_encoder.join.2.weight"] == (2048, 2048)
    assert shapes["image_widen.weight"] == (1024, 2048)
    assert shapes["text_widen.weight"] == (1024, 768)
    for layers, count, width in ((model.image_encoder.layers, 4, 2048), (model.shared, 2, 1024)):
        assert len(layers.layers) == count and layers.norm is None
        for layer in layers.layers:
            assert (layer.self_attn.num_heads, layer.norm_first, layer.dropout.p) == (4, False, 0.1)
            assert tuple(layer.linear1.weight.shape) == (2048, width)
            assert layer.activation is torch.nn.functional.relu
    assert config.loss.args == {"margin": 0.2, "hardest_negative": True}
    assert (config.training.batch_size, config.training.epochs, config.schedule.warmup_steps) == (80, 30, 1000)
    assert (config.optimizer.name, config.optimizer.lr, config.optimizer.grad_clip) == ("adam", 2e-6, 2.0)
    assert config.optimizer.text_tower_lr_scale == 1.0


@pytest.mark.parametrize(
    ("kind", "name", "argument", "value"),
    [
        *(("image_encoder", name, "dropout", 1.0) for name in ("linear", "pooled", "transformer")),
        *(("image_encoder", name, "cell_dropout", -0.1) for name in ("pooled", "transformer")),
        *(("text_encoder", name, "dropout", 1.0) for name in catalog.names("text_encoder")),
        *(("text_encoder", name, "word_dropout", math.nan) for name in catalog.names("text_encoder")),
        *(("captioner", name, "dropout", 1.5) for name in catalog.names("captioner")),
        *(("captioner", name, "num_layers", 0) for name in ("transformer", "standardized-transformer", "clip-gpt2")),
        ("captioner", "transformer", "image_layers", -1),
        ("captioner", "transformer", "max_length", 0),
        ("captioner", "show-attend-tell", "attention_dim", 0),
        ("text_encoder", "gru", "word_dim", 0),
        ("text_encoder", "transformer", "num_layers", 0),
        ("image_encoder", "pooled", "hidden_dim", -1),
    ],
)
def test_an_argument_outside_its_bounds_is_refused(kind: str, name: str, argument: str, value: float) -> None:
    sizes: dict[str, object] = {"embed_dim": 16}
    if kind != "text_encoder":
        sizes |= {"image_dim": 16, "image_kind": "global"}
    if kind != "image_encoder":
        sizes |= {"vocab_size": 8}
    if name == "identity":
        sizes |= {"text_dim": 16}
    with pytest.raises(ConfigError, match=rf"{argument} (must be|at least)"):
        catalog.build(kind, name, {argument: value}, **sizes)

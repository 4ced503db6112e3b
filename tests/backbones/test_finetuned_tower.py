"""``NAME@RUN``: the image backbone that a model fine-tuned is the backbone of other models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.precomputed import random_backbone
from torch import nn

from xmodal_cli.backbones.finetuned_tower import TunedTower, load_tuned_tower
from xmodal_cli.backbones.image_backbones import build_backbone, build_upper
from xmodal_cli.config import load_config
from xmodal_cli.errors import BadData
from xmodal_cli.inference.captioners import load_captioner
from xmodal_cli.inference.matchers import load_matcher
from xmodal_cli.recipes.train import train_model

TINY = (
    "model.embed_dim=32",
    "optimizer.image_tower_lr_scale=1",
    "optimizer.lr=0.01",
    "schedule.warmup_steps=0",
    "training.epochs=1",
    "training.batch_size=20",
    "training.precision=fp32",
    "training.device=cpu",
    "training.tensorboard=false",
)


def train(preset: str, backbone: str, images: Path, run: Path, *settings: str) -> Path:
    config = load_config(preset, [*TINY, f"features.backbone={backbone}", *settings])
    return train_model(config, str(images), run).model


def random_pixels(side: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def vit(tmp_path: Path) -> str:
    return random_backbone(tmp_path, 0)


@pytest.fixture
def tuned_vit(vit: str, shapes_images: Path, tmp_path: Path) -> Path:
    """A matcher with the last two blocks of the network fine-tuned."""
    bow = ("model.text_encoder=bow", "features.tuned_blocks=2")
    return train("vse", vit, shapes_images, tmp_path / "tuned", *bow)


@pytest.mark.parametrize("kind", ["global", "grid"])
def test_the_backbone_computes_what_the_tower_of_the_model_computes(vit, tuned_vit, kind):
    tuned, original = (build_backbone(name, kind) for name in (f"timm/test_vit@{tuned_vit}", vit))
    assert tuned.meta.backbone == f"timm/test_vit@{tuned_vit}"
    assert (tuned.weights_file, tuned.meta.kind) == (tuned_vit, kind)
    assert tuned.meta.fingerprint != original.meta.fingerprint
    pixels = random_pixels(tuned.meta.preprocessing["size"])
    features = tuned.encode(pixels)
    assert not torch.allclose(features, original.encode(pixels), rtol=1e-2, atol=1e-2)
    if kind == "global":
        tower = load_matcher(str(tuned_vit)).model.image_encoder.tower
        expected = tower(build_backbone(vit, "trunk-2").encode(pixels).clone())
        torch.testing.assert_close(features, expected.detach(), rtol=1e-4, atol=1e-4)


def test_it_can_be_named_by_its_run_and_fine_tuned_again(tuned_vit, shapes_images, home, tmp_path):
    (home / "runs").mkdir()
    (home / "runs" / "first").symlink_to(tuned_vit.parent)
    name = "timm/test_vit@first"
    settings = ("model.text_encoder=bow", "features.tuned_blocks=1")
    second = train("vse", name, shapes_images, tmp_path / "second", *settings)
    pixels = random_pixels(build_backbone(name).meta.preprocessing["size"])
    upper, _ = build_upper(name, "global", 1)
    cells = build_backbone(name, "trunk-1").encode(pixels).clone()
    torch.testing.assert_close(upper(cells).detach(), build_backbone(name).encode(pixels), rtol=1e-4, atol=1e-4)
    tower = load_matcher(str(second)).model.image_encoder.tower
    twice = build_backbone(f"timm/test_vit@{second}").encode(pixels)
    torch.testing.assert_close(twice, tower(cells).detach(), rtol=1e-4, atol=1e-4)


def test_a_tower_that_was_trained_from_pixels(shapes_images, tmp_path, tiny_backbone):
    settings = ("features.kind=grid", "model.args={num_layers=1}", "training.batch_size=60")
    run = train("transformer", tiny_backbone, shapes_images, tmp_path / "captioner", *settings)
    pixels = random_pixels(160)
    tuned, original = (build_backbone(name, "grid") for name in (f"timm/test_resnet@{run}", tiny_backbone))
    expected = load_captioner(str(run)).model.tower(pixels[..., :160, :160])
    torch.testing.assert_close(tuned.encode(pixels), expected.detach(), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(tuned.encode(pixels), original.encode(pixels), rtol=1e-2, atol=1e-2)


def test_other_models_are_errors(vit, tuned_vit, shapes_images, tmp_path):
    with pytest.raises(BadData, match=r"fine-tuned timm/test_vit@.*, not timm/test_resnet") as error:
        build_backbone(f"timm/test_resnet@{tuned_vit}")
    assert error.value.hint == "name the backbone timm/test_vit@MODEL"
    with pytest.raises(BadData, match="not efficientnet-lite2"):
        build_backbone(f"efficientnet-lite2@{tuned_vit}")
    frozen = ("model.text_encoder=bow", "optimizer.image_tower_lr_scale=0")
    plain = train("vse", vit, shapes_images, tmp_path / "plain", *frozen)
    for name in ("timm/test_vit", "resnet50", "efficientnet-lite2"):
        with pytest.raises(BadData, match="has no fine-tuned image backbone"):
            build_backbone(f"{name}@{plain}")


def test_efficientnet_is_fine_tuned_twice(shapes_images, tmp_path):
    """The blocks that were frozen in the second training are those of the first."""
    settings = ("model.text_encoder=bow", "features.kind=grid", "model.image_encoder=pooled")
    first = train("vse", "efficientnet-lite2", shapes_images, tmp_path / "1", *settings, "features.tuned_blocks=2")
    name = f"efficientnet-lite2@{first}"
    second = train("vse", name, shapes_images, tmp_path / "2", *settings, "features.tuned_blocks=1")
    pixels = random_pixels(260)[:1]
    tower = load_matcher(str(second)).model.image_encoder.tower
    expected = tower(build_backbone(name, "trunk-1").encode(pixels).clone())
    actual = build_backbone(f"efficientnet-lite2@{second}", "grid").encode(pixels)
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-4, atol=1e-4)


def test_a_network_of_another_kind_has_the_layers_or_is_refused():
    inner = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    tensors = {name: torch.full_like(value, 3) for name, value in inner.state_dict().items()}
    tower = TunedTower(Path("run"), "timm/any", "global", 0, tensors)
    for network in (inner, nn.Sequential(inner), nn.Sequential(nn.Sequential(nn.Linear(2, 2), inner))):
        load_tuned_tower(network, tower, "grid")
    assert all(bool((value == 3).all()) for value in inner.parameters())
    load_tuned_tower(inner, replace(tower, tensors={f"model.{name}": value for name, value in tensors.items()}), "grid")
    for network in (nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 4)))):
        with pytest.raises(BadData, match="run fine-tuned the network of global features of timm/any") as error:
            load_tuned_tower(network, tower, "grid")
        assert "--kind global" in error.value.hint

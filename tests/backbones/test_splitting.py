"""Trunk and last blocks together equal the network, for every family, and only the last blocks are trained."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from xmodal_cli.backbones.image_backbones import build_backbone, build_network, build_upper, check_request
from xmodal_cli.backbones.splitting import find_blocks
from xmodal_cli.errors import ConfigError
from xmodal_cli.models.towers import trainable_state_dict

TIMM = ("test_vit", "test_resnet", "test_convnext", "test_efficientnet", "test_maxvit")


def save(network: nn.Module, file: Path) -> str:
    """A weights file with random weights and statistics, so that every layer has an effect."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) * 0.5 + 0.75)
    torch.save(network.state_dict(), file)
    return str(file)


@pytest.fixture
def backbones(tmp_path, tiny_clip, monkeypatch):
    """Name of a small random network by family, with kinds of features and a number of its blocks."""
    import timm
    from torchvision import models
    from torchvision.models.resnet import Bottleneck, ResNet

    def get_model(name, weights=None, **kwargs):
        return ResNet(Bottleneck, [1, 1, 1, 2], width_per_group=8)

    monkeypatch.setattr(models, "get_model", get_model)
    names = {f"timm/{name}": timm.create_model(name, num_classes=0) for name in TIMM}
    names["resnet50"] = get_model("resnet50")
    files = {name: tmp_path / f"{Path(name).name}.pth" for name in names}
    found = {name: f"{name}@{save(network, files[name])}" for name, network in names.items()}
    return found | {"open_clip": tiny_clip("split")[0]}


@pytest.mark.parametrize("family", [*(f"timm/{name}" for name in TIMM), "resnet50", "open_clip"])
@pytest.mark.parametrize(("kind", "num_blocks"), [("global", 1), ("grid", 2)])
def test_trunk_and_last_blocks_equal_the_network(backbones, family, kind, num_blocks):
    name = backbones[family]
    whole, trunk = build_backbone(name, kind), build_backbone(name, f"trunk-{num_blocks}")
    upper, meta = build_upper(name, kind, num_blocks)
    assert (meta.fingerprint, meta.backbone, meta.kind) == (whole.meta.fingerprint, name, kind)
    assert meta.dim == whole.meta.dim
    size = whole.meta.preprocessing["size"]
    pixels = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    cells = trunk.encode(pixels)
    assert cells.shape[2] == trunk.meta.dim
    expected = whole.encode(pixels)
    assert not torch.allclose(expected[0], expected[1], rtol=1e-3, atol=1e-3)
    with torch.inference_mode():
        torch.testing.assert_close(upper.eval()(cells), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["timm/test_vit", "timm/test_resnet", "open_clip"])
def test_only_the_last_blocks_are_trained_and_saved(backbones, family):
    name = backbones[family]
    upper, _ = build_upper(name, "global", 1)
    before = copy.deepcopy(upper.state_dict())
    trained = {n for n, p in upper.named_parameters() if p.requires_grad}
    frozen = {n for n, p in upper.named_parameters() if not p.requires_grad}
    assert trained and len(frozen) > len(trained)
    assert not frozen & set(trainable_state_dict(upper))
    pixels = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    trunk = build_backbone(name, "trunk-1")
    pixels = pixels[..., : trunk.meta.preprocessing["size"], : trunk.meta.preprocessing["size"]]
    optimizer = torch.optim.SGD([p for p in upper.parameters() if p.requires_grad], lr=0.1)
    upper.train()(trunk.encode(pixels).clone()).square().sum().backward()
    optimizer.step()
    for key, value in upper.state_dict().items():
        if key in frozen or (key not in trained and "network.layer1" in key):  # with the running means below
            assert torch.equal(value, before[key]), key
    assert any(not torch.equal(value, before[key]) for key, value in upper.state_dict().items() if key in trained)


def test_copies_are_independent(backbones):
    """A moving average of the weights is a deep copy."""
    upper, _ = build_upper(backbones["timm/test_vit"], "global", 1)
    cells = torch.randn(2, *upper.shape)
    twin = copy.deepcopy(upper)
    for parameter in twin.parameters():
        parameter.data.add_(0.5)
    assert not torch.allclose(twin.eval()(cells), upper.eval()(cells), atol=1e-2)
    assert torch.allclose(copy.deepcopy(upper).eval()(cells), upper.eval()(cells))


def test_one_of_two_views_is_sampled_in_training(backbones):
    upper, _ = build_upper(backbones["timm/test_vit"], "global", 1)
    views = torch.randn(64, 2, *upper.shape)
    cells = views.flatten(1, 2)
    first, second = (upper.eval()(views[:, n].contiguous()) for n in (0, 1))
    torch.testing.assert_close(upper(cells), (first + second) / 2, rtol=1e-4, atol=1e-5)
    sampled = upper.train()(cells)
    is_first, is_second = ((sampled - other).abs().amax(1) < 1e-4 for other in (first, second))
    assert bool((is_first ^ is_second).all())
    assert is_first.any() and is_second.any()


def test_blocks_of_a_network_without_blocks_are_its_convolutions():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    assert find_blocks(network) == [network[0], network[2]]


def test_a_network_with_a_path_around_the_blocks_cannot_be_split(monkeypatch):
    from xmodal_cli.backbones.splitting import LastBlocks

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))

        def forward(self, images):
            return self.layers(images).mean((2, 3)) + images.mean((1, 2, 3))[:, None]

    with pytest.raises(ConfigError, match="cannot be split before its last 1 blocks") as caught:
        LastBlocks(Skip(), 1, "global", 16, "skip")
    assert "tuned_blocks" in caught.value.hint


def test_too_many_blocks_and_backbones_without_gradient_are_errors(backbones):
    with pytest.raises(ConfigError, match="cannot fine-tune 9 blocks of timm/test_vit, which has 6") as caught:
        build_upper(backbones["timm/test_vit"], "global", 9)
    assert caught.value.hint == "use 1 to 6 blocks"
    with pytest.raises(ConfigError, match="cannot fine-tune 0 blocks"):
        check_request("resnet50", "trunk-0")
    for name in ("faster-rcnn-resnet50", "bottom-up@regions"):
        with pytest.raises(ConfigError, match="cannot be fine-tuned") as caught:
            build_upper(name, "global", 1)
        assert "image_tower_lr_scale to 0" in caught.value.hint
    with pytest.raises(ConfigError):
        build_network("bottom-up")

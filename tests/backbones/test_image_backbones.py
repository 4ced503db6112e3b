"""Names, weights files, and that the network of each family equals that of its library."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from xmodal_cli.backbones import image_backbones
from xmodal_cli.backbones.image import efficientnet_lite2, vgg
from xmodal_cli.backbones.image_backbones import build_backbone, check_request, known
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError, DownloadError, MissingData, UnknownName


@pytest.fixture
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 96, 96), dtype=np.uint8))


def randomize(network):
    """Random weights and statistics, so that normalization has an effect."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias.data):
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1)
            for tensor in (module.running_var, module.weight.data):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.5 + 0.75)
    return network.eval()


def save(network, file):
    torch.save(network.state_dict(), file)
    return file


def normalize(pixels, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    return (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_the_families_have_no_heavy_imports():
    code = (
        "import sys; from xmodal_cli.backbones import image_backbones as f; f.known(); f.check_request('vgg19');"
        "print([m for m in ('torch', 'timm', 'torchvision', 'open_clip', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_known_name_has_one_family():
    assert {"efficientnet-lite2", "vgg16", "vgg19", "resnet50", "resnet101", "resnet152"} < set(known())
    for name in known():
        assert sum(family.supports(name) for family in image_backbones._families()) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [("vgg20", "vgg"), ("resnet-50", "resnet50"), ("timm/resnet19", "resnet18"), ("open_clip/ViT-B-33/x", "ViT-B-32")],
)
def test_a_misspelled_name_gets_a_suggestion(name, hint):
    with pytest.raises(UnknownName) as caught:
        build_backbone(name)
    assert hint in caught.value.hint


def test_invalid_requests_raise():
    with pytest.raises(ConfigError, match="vgg19 has global and grid features, not regions") as caught:
        check_request("vgg19", "regions")
    assert "faster-rcnn" in caught.value.hint and "bottom-up@PATH" in caught.value.hint
    with pytest.raises(UnknownName):
        check_request("vgg19", "globe")
    with pytest.raises(ConfigError, match="1, 2 or 10"):
        check_request("vgg19", crops=5)
    with pytest.raises(ConfigError, match="cells"):
        check_request("vgg19", "grid", 10)


def test_the_default_backbone_equals_timm():
    import timm

    backbone = build_backbone("efficientnet-lite2")
    assert backbone.meta.fingerprint.startswith("9656183eaeafe8cb") and backbone.meta.dim == 1280
    weights = torch.load(backbone.weights_file, weights_only=True)
    network = timm.create_model("tf_efficientnet_lite2").eval()
    assert [t.shape for t in weights.values()] == [t.shape for t in network.state_dict().values()]
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    pixels = backbone.preprocess(image)
    resized = np.asarray(image.resize((260, 260), Image.Resampling.BICUBIC), dtype=np.float32)
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0).numpy(), resized)
    with torch.inference_mode():
        features = network.forward_features(torch.from_numpy((resized - 127) / 128).permute(2, 0, 1)[None])
    torch.testing.assert_close(backbone.encode(pixels), features.mean((2, 3)), atol=1e-3, rtol=1e-3)
    grid = build_backbone("efficientnet-lite2", "grid").encode(pixels)
    torch.testing.assert_close(grid, features.flatten(2).mT, atol=5e-3, rtol=1e-3)


def test_bfloat16_is_close_to_float32(pixels):
    backbone = build_backbone("efficientnet-lite2")
    exact = backbone.encode(pixels)
    backbone.to(Compute("cpu", "bf16"))
    assert torch.cosine_similarity(backbone.encode(pixels).float(), exact).min() > 0.99


def test_other_weights_than_the_published_ones_raise(monkeypatch):
    monkeypatch.setattr(efficientnet_lite2, "SHA256", "0" * 64)
    with pytest.raises(BadData, match="not the published file"):
        build_backbone("efficientnet-lite2")
    monkeypatch.setattr(efficientnet_lite2, "PACKAGE", "no_such_package")
    with pytest.raises(MissingData, match="not installed"):
        build_backbone("efficientnet-lite2")


def test_resnet_equals_torchvision(tmp_path, pixels, offline):
    from torchvision import models

    network = randomize(models.resnet50(weights=None))
    (offline / "hub" / "checkpoints").mkdir(parents=True)
    file = save(network, offline / "hub" / "checkpoints" / "resnet50-0676ba61.pth")  # the path in the hint
    network.fc = nn.Identity()
    with torch.inference_mode():
        expected = network(normalize(pixels))
    backbone = build_backbone("resnet50")
    assert backbone.weights_file == file and backbone.meta.dim == 2048
    torch.testing.assert_close(backbone.encode(pixels), expected, atol=1e-3, rtol=1e-3)
    grid = build_backbone(f"resnet50@{file}", "grid").encode(pixels)
    assert grid.shape == (2, 9, 2048)
    torch.testing.assert_close(grid.mean(1), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", vgg.known())
def test_vgg_features_are_fc7_and_conv5(name):
    from torchvision import models

    with torch.device("meta"):  # only shapes: the weights would be half a gigabyte
        network = models.get_model(name, weights=None)
        image = torch.zeros(1, 3, 224, 224)
        fc7, conv5 = vgg._backbone(network, "global"), vgg._backbone(network, "grid")
        assert fc7(image).shape == (1, 4096) and conv5(image).shape == (1, 196, 512)
    assert fc7[-1] is network.classifier[4] and isinstance(fc7[-1], nn.ReLU)
    assert conv5[-2] is network.features[-2] and isinstance(conv5[-2], nn.ReLU)


@pytest.mark.parametrize(("arch", "cells"), [("test_resnet", 25), ("test_vit", 100)])
def test_timm_models(tmp_path, arch, cells):
    import timm

    torch.manual_seed(0)
    network = randomize(timm.create_model(arch))
    file = save(network, tmp_path / "w.pth")
    pixels = torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8)
    config = timm.data.resolve_model_data_config(network)
    with torch.inference_mode():
        features = network.forward_features(normalize(pixels, config["mean"], config["std"]))
        expected = network.forward_head(features, pre_logits=True)
    backbone = build_backbone(f"timm/{arch}@{file}")
    assert backbone.meta.backbone == f"timm/{arch}@{file}" and backbone.meta.preprocessing["size"] == 160
    torch.testing.assert_close(backbone.encode(pixels), expected, atol=1e-4, rtol=1e-4)
    grid = build_backbone(f"timm/{arch}@{file}", "grid").encode(pixels)
    tokens = features[:, network.num_prefix_tokens :] if features.ndim == 3 else features.flatten(2).mT
    assert grid.shape[1] == cells
    torch.testing.assert_close(grid, tokens, atol=1e-4, rtol=1e-4)


def test_open_clip_towers(tmp_path):
    import open_clip

    vision = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    config = tmp_path / "xmodal-tiny.json"
    config.write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    network = open_clip.create_model("xmodal-tiny").eval()
    name = f"open_clip/xmodal-tiny@{save(network, tmp_path / 'w.pt')}"
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    with torch.inference_mode():
        expected = network.encode_image(normalize(pixels, mean, std))
    backbone = build_backbone(name)
    assert backbone.meta.dim == 24
    torch.testing.assert_close(backbone.encode(pixels), expected, atol=1e-4, rtol=1e-4)
    assert build_backbone(name, "grid").encode(pixels).shape == (2, 16, 64)
    other = save(nn.Linear(2, 2), tmp_path / "other.pt")
    with pytest.raises(BadData, match=r"other\.pt"):
        build_backbone(f"open_clip/xmodal-tiny@{other}")


@pytest.mark.parametrize(
    ("name", "url", "path"),
    [
        ("vgg19", "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth", "hub/checkpoints/vgg19-dcbb9e9d.pth"),
        ("timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k/resolve/main/model.safetensors", "resnet18.a1_in1k@FILE"),
        ("open_clip/ViT-B-32/laion2b_s34b_b79k", "resolve/main/open_clip_model.safetensors", "@FILE"),
    ],
)
def test_the_hint_without_network_has_url_and_path(offline, name, url, path):
    with pytest.raises(DownloadError) as caught:
        build_backbone(name)
    assert "cannot be reached" in caught.value.message
    assert url in caught.value.hint and path in caught.value.hint
    assert not list((offline / "hub").rglob("*.pth"))


class Malicious:
    def __reduce__(self):
        return (print, ("a checkpoint ran code",))


def test_invalid_weights_raise(tmp_path, home, capsys):
    import timm

    good = save(timm.create_model("test_resnet"), tmp_path / "good.pth")
    (tmp_path / "cut.pth").write_bytes(good.read_bytes()[:-1000])
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    (tmp_path / "malicious.pth").write_bytes(pickle.dumps({"weight": Malicious()}, protocol=2))
    torch.save({"epoch": 3}, tmp_path / "other.pth")
    for file in ("cut.pth", "cut.safetensors", "malicious.pth", "other.pth"):
        with pytest.raises(BadData, match=file.replace(".", r"\.")):
            build_backbone(f"resnet50@{tmp_path / file}")
    with pytest.raises(BadData, match="cannot be used"):
        build_backbone(f"resnet50@{good}")
    with pytest.raises(BadData, match="cannot be used"):
        build_backbone(f"timm/test_vit@{good}")
    assert "ran code" not in capsys.readouterr().out
    with pytest.raises(MissingData, match=r"nowhere\.pth"):
        build_backbone("resnet50@nowhere.pth")


def test_weights_are_found_in_the_models_folder(tmp_path, home):
    import timm

    (home / "models").mkdir()
    file = save(timm.create_model("test_resnet"), home / "models" / "mine.pth")
    backbone = build_backbone("timm/test_resnet@mine.pth")
    assert backbone.weights_file == file and backbone.meta.backbone == "timm/test_resnet@mine.pth"

"""Faster R-CNN as a backbone, with the smallest detector of torchvision and random weights in a local file."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from xmodal_cli.backbones.detector import NUM_PROPOSALS, OVERLAP, build_region_rows, select_boxes
from xmodal_cli.backbones.image import faster_rcnn
from xmodal_cli.backbones.image_backbones import build_backbone, build_network, check_request
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.errors import BadData, ConfigError, DownloadError
from xmodal_cli.features.store import open_features
from xmodal_cli.regions import REGION_COLUMNS

SIDE = 128  # of the test images; the default is 640
DIM = 1024


def detector(classes: int = 7):
    """The MobileNet detector with weights that give varied scores and boxes."""
    from torchvision import models

    torch.manual_seed(0)
    network = models.detection.fasterrcnn_mobilenet_v3_large_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=classes,
        rpn_score_thresh=0.0,
        rpn_post_nms_top_n_test=NUM_PROPOSALS,
        box_score_thresh=0.0,
        box_nms_thresh=1.1,
        box_detections_per_img=10**6,
        min_size=SIDE,
        max_size=SIDE,
    )
    for module in network.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # statistics of the images below, so that the outputs depend on the input
    network.backbone.train()
    with torch.no_grad():
        network.backbone(torch.randn(4, 3, SIDE, SIDE))
    predictor = network.roi_heads.box_predictor
    nn.init.normal_(predictor.cls_score.weight, std=0.1)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.05)
    nn.init.normal_(network.rpn.head.cls_logits.weight, std=1)
    return network.eval()


@pytest.fixture(scope="module")
def network():
    return detector()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("weights") / "detector.pth"
    torch.save(network.state_dict(), target)
    return target


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(faster_rcnn, "SIDE", SIDE)


@pytest.fixture
def backbone(file):
    return build_backbone(f"faster-rcnn-mobilenet@{file}", "regions")


@pytest.fixture(scope="module")
def pixels():
    """Two noise images, one of a single color, and a gradient."""
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, SIDE), dtype=np.uint8))
    grey = torch.full((1, 3, SIDE, SIDE), 90, dtype=torch.uint8)
    gradient = torch.arange(SIDE, dtype=torch.uint8).expand(1, 3, SIDE, SIDE)
    return torch.cat([noise, grey, gradient])


def columns(rows) -> dict[str, torch.Tensor]:
    return dict(zip(REGION_COLUMNS, rows[..., -len(REGION_COLUMNS) :].unbind(-1), strict=True))


def test_shapes_columns_and_order(backbone, pixels):
    rows = backbone.encode(pixels)
    assert rows.shape == (4, 36, DIM + 7) and rows.dtype == torch.float32
    meta = backbone.meta
    assert (meta.kind, meta.dim, meta.crops) == ("regions", DIM + 7, 1)
    assert meta.preprocessing["side"] == SIDE and meta.preprocessing["regions"] == 36
    values = columns(rows)
    real = values["area"] > 0
    assert real.any(1).all()
    for name in ("x1", "y1", "x2", "y2", "area", "score"):
        assert (values[name] >= 0).all() and (values[name] <= 1).all()
    torch.testing.assert_close(values["area"], (values["x2"] - values["x1"]) * (values["y2"] - values["y1"]))
    assert (values["score"][:, 1:] <= values["score"][:, :-1]).all()
    assert len(values["score"].unique()) > 100 and len(values["class"].unique()) > 3
    assert (values["x1"][0] != values["x1"][1]).sum() > 10  # different images have different boxes
    assert set(values["class"][real].tolist()) <= set(range(1, 7)) and not rows[~real].any()
    assert (rows.half()[..., -3][real] > 0).all()


def test_regions_are_detections_of_torchvision_and_features_are_pooled_from_them(network, backbone, pixels):
    from torchvision.models.detection.image_list import ImageList

    image = pixels[0] / 255
    with torch.inference_mode():
        (detections,) = network([image])
        rows = backbone.encode(pixels[:1])[0]
        images, _ = network.transform([image])
        maps = network.backbone(ImageList(images.tensors, images.image_sizes).tensors)
        values = columns(rows)
        boxes = torch.stack([values[c] for c in ("x1", "y1", "x2", "y2")], 1) * SIDE
        heads = network.roi_heads
        features = heads.box_head(heads.box_roi_pool(maps, [boxes], images.image_sizes))
    torch.testing.assert_close(rows[:, :DIM], features, atol=1e-3, rtol=1e-3)
    wide = (boxes[:, 2:] - boxes[:, :2] > 1).all(1)
    assert wide.sum() > 20
    for n in torch.nonzero(wide)[:, 0]:
        same = detections["labels"] == int(values["class"][n])
        distance = (detections["boxes"][same] - boxes[n]).abs().amax(1)
        best = distance.argmin()
        assert distance[best] < 1e-2
        torch.testing.assert_close(detections["scores"][same][best], values["score"][n], atol=1e-4, rtol=1e-3)


def overlap(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


def test_selected_boxes_equal_those_of_naive_suppression():
    rng = np.random.default_rng(3)
    top_left = rng.uniform(0, 60, (200, 2))
    boxes = np.concatenate([top_left, top_left + rng.uniform(10, 40, (200, 2))], 1)
    scores = rng.permutation(200) / 200
    kept: list[int] = []
    for n in sorted(range(200), key=lambda n: -scores[n]):
        if all(overlap(boxes[n], boxes[other]) <= OVERLAP for other in kept):
            kept.append(n)
    assert len(kept) > 36
    inputs = torch.from_numpy(boxes).float(), torch.from_numpy(scores).float(), torch.arange(200)
    assert select_boxes(*inputs)[2].tolist() == kept[:36]


def test_boxes_are_clipped_to_the_image_and_rows_padded_with_zeros():
    boxes = torch.tensor([[-0.1, 0.2, 1.2, 0.2], [1.0, 1.0, 1.0, 1.0]])
    rows = build_region_rows(torch.ones(2, 3), boxes, torch.tensor([0.7, 0.2]), torch.tensor([5, 90]))
    assert rows.shape == (36, 10) and not rows[2:].any()
    torch.testing.assert_close(rows[0, 3:], torch.tensor([0, 0.2, 1, 0.201, 0.001, 0.7, 5]))
    torch.testing.assert_close(rows[1, 3:], torch.tensor([0.999, 0.999, 1, 1, 1e-6, 0.2, 90]), atol=1e-7, rtol=1e-3)
    assert rows.half()[1, 7] > 0


def test_regions_do_not_depend_on_the_batch(backbone, file, pixels):
    together = backbone.encode(pixels)
    assert torch.equal(together, backbone.encode(pixels))
    for n in range(len(pixels)):
        assert torch.equal(backbone.encode(pixels[n : n + 1])[0], together[n])
    assert torch.equal(backbone.encode(pixels.flip(0)), together.flip(0))
    again = build_backbone(f"faster-rcnn-mobilenet@{file}", "regions")
    assert torch.equal(again.encode(pixels[:1])[0], together[0])


def test_bfloat16_keeps_boxes_in_float32(backbone, pixels):
    exact = backbone.encode(pixels)
    backbone.to("cpu", torch.bfloat16)
    bfloat16 = backbone.encode(pixels)
    assert bfloat16.shape == exact.shape and bfloat16.dtype == torch.float32 and bfloat16.isfinite().all()
    assert (columns(bfloat16)["area"] > 0).any(1).all()
    mean = [rows[..., :DIM].mean(1) for rows in (exact, bfloat16)]
    assert torch.cosine_similarity(*mean).min() > 0.9
    backbone.to("cpu", torch.float32)
    assert backbone.encode(pixels).dtype == torch.float32


def test_images_are_resized_to_a_square(backbone):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 300, 3), dtype=np.uint8))
    pixels = backbone.preprocess(image)
    assert pixels.shape == (1, 3, SIDE, SIDE)
    resized = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(pixels[0].permute(1, 2, 0).numpy(), resized)


def test_batch_norms_of_the_published_resnet_weights_have_eps_0(monkeypatch, file):
    def eps_values():
        layers = faster_rcnn._network("faster-rcnn-mobilenet", file).backbone.modules()
        return {m.eps for m in layers if isinstance(m, nn.BatchNorm2d)}

    default = eps_values()
    monkeypatch.setattr(faster_rcnn, "sha256_of", lambda file: faster_rcnn.WITHOUT_EPSILON + "0" * 56)
    assert 0.0 not in default and eps_values() == {0.0}


@pytest.mark.parametrize("name", faster_rcnn.known())
def test_every_name_is_a_detector_of_torchvision(name, monkeypatch, tmp_path):
    from torchvision import models

    url = models.get_model_weights(faster_rcnn.NETWORKS[name]).COCO_V1.url

    def refuse(*args, **kwargs):
        raise socket.gaierror("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for proxy in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(proxy, raising=False)
    with pytest.raises(DownloadError) as caught:
        build_backbone(name, "regions")
    assert url in caught.value.hint and str(tmp_path / "hub" / "checkpoints") in caught.value.hint
    with torch.device("meta"):
        network = models.get_model(faster_rcnn.NETWORKS[name], weights=None, weights_backbone=None)
    assert faster_rcnn.CLASSIFIER in network.state_dict()
    assert network.roi_heads.box_predictor.cls_score.in_features == DIM


def test_invalid_requests_and_weights_raise(tmp_path, file):
    for kind in ("global", "grid"):
        with pytest.raises(ConfigError, match=f"faster-rcnn-mobilenet has regions features, not {kind}") as caught:
            check_request("faster-rcnn-mobilenet", kind)
        assert "--kind regions" in caught.value.hint
    with pytest.raises(ConfigError, match="cannot be fine-tuned"):
        build_network(f"faster-rcnn-mobilenet@{file}", "regions")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(BadData, match=r"other\.pth cannot be used: roi_heads"):
        build_backbone(f"faster-rcnn-resnet50@{tmp_path / 'other.pth'}", "regions")
    with pytest.raises(BadData, match=r"detector\.pth cannot be used"):
        build_backbone(f"faster-rcnn-resnet50@{file}", "regions")


def test_the_command_on_shapes(xmodal, tmp_path, file):
    make_shapes(tmp_path / "shapes", num_train=2, num_val=1, num_test=1)
    args = ("features", tmp_path / "shapes", "--backbone", f"faster-rcnn-mobilenet@{file}", "--kind", "regions")
    result = xmodal(*args, "--out", tmp_path / "o", "--device", "cpu", "--precision", "fp32", "--json")
    assert result.code == 0, result.err
    assert (result.json["images"], result.json["shape"], result.json["extracted"]) == (4, [36, DIM + 7], 4)
    features = open_features(tmp_path / "o")
    assert features.values.dtype == np.float16 and features.meta.kind == "regions"
    assert (features.values[:, 0, -3] > 0).all() and (np.diff(features.values[..., -2], axis=1) <= 0).all()
    again = xmodal(*args, "--out", tmp_path / "o", "--json")
    assert again.json["extracted"] == 0

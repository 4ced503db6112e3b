"""Faster R-CNN as a backbone, with the smallest detector of torchvision and random weights in a local file."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from xmodal_cli.backbones import detector as detector_module
from xmodal_cli.backbones.detector import build_region_rows, select_regions
from xmodal_cli.backbones.image import faster_rcnn
from xmodal_cli.backbones.image_backbones import build_backbone, build_network, check_request
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError, DownloadError, IncompatibleFeatures
from xmodal_cli.features.image_features import check_same_features
from xmodal_cli.features.store import open_features
from xmodal_cli.regions import NUM_PROPOSALS, REGION_COLUMNS
from xmodal_cli.types import ImageTextDataset

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


def test_regions_are_proposals_and_features_are_pooled_from_them(network, backbone, pixels):
    from torchvision.models.detection.image_list import ImageList

    with torch.inference_mode():
        rows = backbone.encode(pixels[:1])[0]
        images, _ = network.transform([pixels[0] / 255])
        maps = network.backbone(images.tensors)
        proposals = network.rpn(ImageList(images.tensors, images.image_sizes), maps)[0][0]
        values = columns(rows)
        real = values["area"] > 0
        boxes = torch.stack([values[c] for c in ("x1", "y1", "x2", "y2")], 1)[real] * SIDE
        heads = network.roi_heads
        features = heads.box_head(heads.box_roi_pool(maps, [boxes], images.image_sizes))
        probabilities = heads.box_predictor(features)[0].softmax(-1)
    assert real.sum() >= 10
    torch.testing.assert_close(rows[real, :DIM], features, atol=1e-3, rtol=1e-3)
    assert ((proposals[None] - boxes[:, None]).abs().amax(2).amin(1) < 0.2).all()  # sides of at least a thousandth
    scores = probabilities.gather(1, values["class"][real].long()[:, None])[:, 0]
    kept = values["score"][real] > 0
    torch.testing.assert_close(scores[kept], values["score"][real][kept], atol=1e-4, rtol=1e-3)


def overlap(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection)


def selected_one_by_one(boxes, probabilities) -> list[tuple[int, float, int]]:
    """(position, score, class) of the regions, in plain loops; the numbers are those of Anderson et al."""
    best = [(0.0, 0)] * len(boxes)
    for label in range(1, 8):
        kept: list[int] = []
        for n in sorted(range(len(boxes)), key=lambda n: -probabilities[n][label]):
            if all(overlap(boxes[n], boxes[other]) <= 0.3 for other in kept):
                kept.append(n)
        for n in kept:
            if probabilities[n][label] > best[n][0]:
                best[n] = (probabilities[n][label], label)
    ranked = sorted(range(len(boxes)), key=lambda n: -best[n][0])
    count = sum(score >= 0.2 for score, _ in best)
    return [(n, *best[n]) for n in ranked[: min(max(count, 10), 36)]]


def random_boxes(rng, count: int, spread: int):
    """(count, 4) with whole coordinates: few IoUs are within rounding of 0.3."""
    top_left = rng.integers(0, spread, (count, 2))
    return np.concatenate([top_left, top_left + rng.integers(10, 40, (count, 2))], 1).astype(np.float32)


@pytest.mark.parametrize(
    ("count", "spread", "sharpness", "regions"),
    [
        (200, 400, 8, 36),  # more than 36 boxes above the threshold
        (60, 60, 4, None),
        (80, 100, 0.1, 10),  # no box is above the threshold
        (20, 2, 3, 10),  # boxes overlap
        (6, 100, 3, 6),
        (1, 100, 0.1, 1),
        (0, 100, 1, 0),
    ],
)
@pytest.mark.parametrize("ties", [False, True])
def test_selected_regions_equal_those_of_plain_loops(count, spread, sharpness, regions, ties):
    rng = np.random.default_rng(count)
    boxes = random_boxes(rng, count, spread)
    logits = torch.from_numpy(rng.normal(size=(count, 8))) * sharpness
    probabilities = torch.softmax(logits, 1).float()
    if ties:
        probabilities = (probabilities * 5).round() / 5
    expected = selected_one_by_one(boxes.tolist(), probabilities.tolist())
    positions, scores, classes = select_regions(torch.from_numpy(boxes), probabilities)
    assert list(zip(positions.tolist(), scores.tolist(), classes.tolist(), strict=True)) == expected
    if regions is not None and not ties:
        assert len(expected) == regions


def test_the_count_of_regions_follows_the_scores():
    corners = torch.arange(50)[:, None] * 20.0
    boxes = torch.cat([corners, corners, corners + 10, corners + 10], 1)  # none overlaps
    for above, expected in ((0, 10), (9, 10), (10, 10), (23, 23), (36, 36), (50, 36)):
        probabilities = torch.full((50, 3), 0.1)
        probabilities[:above, 2] = 0.2  # the threshold itself is enough
        probabilities[:, 0] = 0.9  # the background is not a class
        positions, scores, classes = select_regions(boxes, probabilities)
        assert positions.tolist() == list(range(expected)), above  # equal scores keep their order
        assert (scores == 0.2).sum() == min(above, 36) and (classes == 2).sum() == min(above, 36)


def test_boxes_suppress_those_of_their_class_only():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    same = torch.tensor([[0.0, 0.9, 0.0], [0.0, 0.8, 0.1], [0.5, 0.3, 0.2]])
    other = torch.tensor([[0.0, 0.9, 0.0], [0.0, 0.1, 0.8], [0.5, 0.3, 0.2]])
    for probabilities, scores in ((same, [0.9, 0.3, 0.1]), (other, [0.9, 0.8, 0.3])):
        torch.testing.assert_close(select_regions(boxes, probabilities)[1], torch.tensor(scores))


def test_boxes_that_are_removed_in_all_classes_fill_up_to_ten_regions():
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(12, 1)
    probabilities = torch.linspace(0.3, 0.9, 12)[:, None] * torch.tensor([0.0, 1.0, 0.9])
    positions, scores, classes = select_regions(boxes, probabilities)
    assert positions.tolist() == [11, *range(9)]
    assert scores[0] == probabilities[11, 1] and not scores[1:].any()
    assert classes.tolist() == [1] + [0] * 9


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
    backbone.to(Compute("cpu", "bf16"))
    bfloat16 = backbone.encode(pixels)
    assert bfloat16.shape == exact.shape and bfloat16.dtype == torch.float32 and bfloat16.isfinite().all()
    assert (columns(bfloat16)["area"] > 0).any(1).all()
    mean = [rows[..., :DIM].mean(1) for rows in (exact, bfloat16)]
    assert torch.cosine_similarity(*mean).min() > 0.9
    backbone.to(Compute("cpu", "fp32"))
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


def test_regions_of_an_older_selection_are_extracted_again(xmodal, tmp_path, file, monkeypatch):
    make_shapes(tmp_path / "shapes", num_train=2, num_val=1, num_test=1)
    args = ("features", tmp_path / "shapes", "--backbone", f"faster-rcnn-mobilenet@{file}", "--kind", "regions")
    args = (*args, "--out", tmp_path / "o", "--device", "cpu", "--json")
    older = {"regions": 36, "proposals": 300, "overlap": 0.5}  # the record of versions before the per-class selection
    with monkeypatch.context() as patch:
        patch.setattr(detector_module, "SELECTION", older)
        patch.setattr(faster_rcnn, "FACTS", older)
        assert xmodal(*args).json["extracted"] == 4
        assert xmodal(*args).json["extracted"] == 0
    old = open_features(tmp_path / "o").meta
    assert xmodal(*args).json["extracted"] == 4
    new = open_features(tmp_path / "o").meta
    assert new.preprocessing["min_score"] == 0.2 and new.fingerprint == old.fingerprint and new.key() != old.key()
    dataset = ImageTextDataset("toy", "shapes", tmp_path, ())
    with pytest.raises(IncompatibleFeatures, match="other preprocessing here than when tern was trained") as error:
        check_same_features("tern", old, dataset, new)
    assert error.value.hint == "train the model again"

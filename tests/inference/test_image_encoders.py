"""Exported image encoders: equal to torch, cached by fingerprint, older exports removed, failures recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData, ConfigError, StorageError, Unavailable, UnknownName
from xmodal_cli.inference import bundled_graphs, image_encoders, onnx_image_export
from xmodal_cli.inference.encoding import image_vectors
from xmodal_cli.inference.exported_matcher import open_matcher
from xmodal_cli.inference.image_encoders import OnnxMatcher, load_backbone, load_matcher_images
from xmodal_cli.inference.matchers import LoadedMatcher, load_matcher
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.onnx_folder import METADATA
from xmodal_cli.inference.runtime import MIN_TORCH_IMAGES, choose_runtime
from xmodal_cli.inference.torch_backbones import backbone_of
from xmodal_cli.reporter import SILENT
from xmodal_cli.types import Unreadable

ON_CPU = Compute("cpu", "fp32")
ROTATED = 6  # EXIF orientation: rotate by 90 degrees


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of several sizes, modes and orientations, and one that is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    modes = {"a.png": ("RGB", (333, 217)), "b.png": ("L", (77, 500)), "c.png": ("RGBA", (640, 480))}
    modes |= {"d.png": ("P", (260, 260)), "e.jpg": ("RGB", (901, 300)), "f.jpg": ("L", (31, 29))}
    modes |= {"g.jpg": ("CMYK", (90, 91))}
    rng = np.random.default_rng(0)
    for name, (mode, size) in modes.items():
        image = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        ImageDraw.Draw(image).ellipse((5, 5, size[0] // 2, size[1] // 2), fill=(200, 30, 30))
        exif = Image.Exif()
        exif[0x0112] = ROTATED if name == "e.jpg" else 1
        converted = image.convert(mode)
        if mode == "RGBA":
            converted.putalpha(Image.linear_gradient("L").resize(size))
        converted.save(folder / name, exif=exif)
    (folder / "h.jpg").write_bytes(b"\xff\xd8\xff not a photo")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def loaded() -> LoadedMatcher:
    return load_matcher("starter", ON_CPU)


def rows(results) -> np.ndarray:
    return np.stack([vector for _, vector in results if not isinstance(vector, Unreadable)])


def vectors_of(matcher: OnnxMatcher, photos: list[Path]) -> np.ndarray:
    return rows(image_vectors(open_matcher(matcher.info, Compute(runtime="onnx"), 1, SILENT))(photos))


def test_the_bundled_matcher_equals_torch(photos, loaded, home):
    matcher = load_matcher_images(describe_model("starter"), SILENT)
    actual, expected = vectors_of(matcher, photos), rows(image_vectors(loaded)(photos))
    assert actual.shape == expected.shape == (len(photos) - 1, 1024) and actual.dtype == np.float32
    assert ((actual * expected).sum(1) > 0.9999).all()
    others = expected @ expected.T
    assert others[~np.eye(len(others), dtype=bool)].min() < 0.8  # the photos differ
    exports = [f.parent.name for f in home.glob("cache/*/*/encoder.onnx")]
    assert len(exports) == 2


@pytest.mark.parametrize("crops", [2, 10])
def test_backbones_with_several_crops_equal_torch(crops, photos, loaded, home):
    from xmodal_cli.features.extraction import encode_files, opener_for

    meta = replace(loaded.meta, kind="global", dim=1280, crops=crops)
    if crops == 10:
        meta = replace(meta, preprocessing={**meta.preprocessing, "side": 297})
    torch_backbone, exported = backbone_of("toy", meta), load_backbone("toy", meta, SILENT)
    assert exported.meta == meta
    results = [rows(encode_files(photos, b, opener_for(b), ON_CPU)) for b in (exported, torch_backbone)]
    np.testing.assert_allclose(*results, atol=1e-3, rtol=1e-3)


def test_a_clip_model_equals_torch(photos, tiny_clip, home):
    name, _ = tiny_clip("images")
    matcher = load_matcher_images(describe_model(name), SILENT)
    expected = rows(image_vectors(load_matcher(name, ON_CPU))(photos))
    np.testing.assert_allclose(vectors_of(matcher, photos), expected, atol=1e-5)


def test_a_damaged_export_is_exported_again(home, loaded):
    folder = image_encoders.head_folder(loaded.info.fingerprint)
    load_matcher_images(loaded.info, SILENT)
    (folder / "encoder.bin").write_bytes(b"")
    with pytest.raises(BadData, match=r"encoder\.bin"):
        image_encoders.OnnxImageHead(folder, loaded.info.fingerprint)
    load_matcher_images(loaded.info, SILENT)
    assert (folder / "encoder.bin").stat().st_size > 10_000


def test_an_export_that_differs_from_torch_is_refused_and_torch_is_used(home, loaded, monkeypatch):
    monkeypatch.setattr(onnx_image_export, "MIN_COSINE", 2.0)
    monkeypatch.setattr(bundled_graphs, "export_bundled_image", lambda *_: False)
    with pytest.raises(Unavailable, match="differ"):
        open_matcher(loaded.info, Compute(runtime="onnx"), 1, SILENT)
    folder = image_encoders.backbone_folder(loaded.meta)
    tried = (folder / METADATA).stat().st_mtime_ns
    matcher = open_matcher(loaded.info, Compute("cpu", "fp32"), 1, SILENT)
    assert matcher.compute.description == "torch, cpu, fp32"
    assert (folder / METADATA).stat().st_mtime_ns == tried  # not tried again


def test_torch_is_used_if_the_export_cannot_be_written(home, loaded, monkeypatch):
    def full(*_: object) -> None:
        raise StorageError("no space left on the disk")

    monkeypatch.setattr("xmodal_cli.inference.exported_matcher.load_matcher_images", full)
    assert isinstance(open_matcher(loaded.info, Compute("cpu", "fp32"), 1, SILENT), LoadedMatcher)
    with pytest.raises(StorageError):
        open_matcher(loaded.info, Compute(runtime="onnx"), 1, SILENT)


def test_the_runtime_depends_on_settings_and_the_number_of_images(monkeypatch):
    monkeypatch.setattr(Compute, "resolve", lambda _: Compute("cpu", "bf16", "torch"))
    assert choose_runtime(Compute(), 1) == "onnx"
    assert choose_runtime(Compute(), MIN_TORCH_IMAGES) == "torch"
    assert choose_runtime(Compute(runtime="onnx"), MIN_TORCH_IMAGES) == "onnx"
    assert choose_runtime(Compute(runtime="torch"), 1) == "torch"
    assert choose_runtime(Compute("cuda"), 1) == choose_runtime(Compute(precision="bf16"), 1) == "torch"
    monkeypatch.setattr(Compute, "resolve", lambda _: Compute("cpu", "fp32", "torch"))
    assert choose_runtime(Compute(), MIN_TORCH_IMAGES) == "onnx"
    with pytest.raises(ConfigError, match="CPU"):
        choose_runtime(Compute("cuda", runtime="onnx"), 1)
    with pytest.raises(UnknownName, match="onnxx"):
        choose_runtime(Compute(runtime="onnxx"), 1)


def test_without_torch_only_onnxruntime_is_chosen(monkeypatch):
    monkeypatch.setattr("xmodal_cli.inference.runtime.has_torch", lambda: False)
    assert choose_runtime(Compute(), 10**6) == "onnx"
    with pytest.raises(Unavailable, match="torch"):
        choose_runtime(Compute(runtime="torch"), 1)
    with pytest.raises(Unavailable, match="cuda"):
        choose_runtime(Compute("cuda"), 1)

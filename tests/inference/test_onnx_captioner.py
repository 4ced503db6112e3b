"""Exported captioners give the captions of torch: beam search, greedy, samples, n-best, ensembles and attention."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xmodal_cli import catalog
from xmodal_cli.captioning.decoding import decode
from xmodal_cli.captioning.ensemble import Ensemble
from xmodal_cli.device import Compute
from xmodal_cli.errors import INSTALL_ALL, BadData, ConfigError, MissingData, Unavailable
from xmodal_cli.inference.caption_runtime import load_captioners, load_exported_captioner
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.inference.captioners import caption_features, load_captioner
from xmodal_cli.inference.image_encoders import load_backbone
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.onnx_captioner import OnnxCaptioner
from xmodal_cli.inference.onnx_captioner_export import export_captioner
from xmodal_cli.inference.onnx_folder import source_record
from xmodal_cli.inference.onnx_image_export import sample_images
from xmodal_cli.inference.onnx_writing import ExportRecord
from xmodal_cli.models.captioners import clip_gpt2
from xmodal_cli.reporter import SILENT
from xmodal_cli.types import Decoding, SpecialTokens

VOCAB, DIM, CELLS, FINGERPRINT = 23, 12, 9, "f" * 64
SPECIAL = SpecialTokens(1, 2, (0, 1, 3))
SETTINGS = {
    "greedy": Decoding(beam=1, max_length=7),
    "beam": Decoding(beam=4, max_length=9),
    "n-best": Decoding(beam=5, num=3, max_length=8, no_repeat_ngram_size=2, min_length=3),
    "groups": Decoding(beam=4, num=4, num_beam_groups=2, max_length=7),
    "samples": Decoding(sample=True, num=3, max_length=8),
    "top-k": Decoding(sample=True, num=2, top_k=5, top_p=0.8, temperature=0.7, max_length=8),
}
ARCHITECTURES = {
    "transformer": {"num_layers": 2, "image_layers": 1},
    "standardized-transformer": {},
    "show-attend-tell": {"attention_dim": 16},
    "clip-gpt2": {"num_prefix": 3},
    "clip-gpt2 transformer": {"num_prefix": 4, "mapping_layers": 1},
}


def build(name: str, args: dict | None = None) -> torch.nn.Module:
    torch.manual_seed(len(name))
    sizes = {"image_dim": DIM, "image_kind": "grid", "vocab_size": VOCAB, "embed_dim": 64}
    model = catalog.build("captioner", name.partition(" ")[0], args or ARCHITECTURES[name], **sizes).eval()
    for parameter in model.parameters():  # the captions of an untrained model are nearly the same
        parameter.data += 0.15 * torch.randn_like(parameter)
    return model


def features(num: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(num, CELLS, DIM)).astype(np.float32)


def export(model: torch.nn.Module, folder: Path) -> OnnxCaptioner:
    record = ExportRecord("captioner", "toy", FINGERPRINT, source_record(folder.name, folder / "toy"))
    export_captioner(model, features(4), record, folder)
    return OnnxCaptioner(folder, FINGERPRINT)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, tuple[torch.nn.Module, OnnxCaptioner]]:
    models = {name: build(name) for name in ARCHITECTURES}
    folder = tmp_path_factory.mktemp("captioners")
    return {name: (model, export(model, folder / name)) for name, model in models.items()}


def assert_same_captions(actual, expected, has_attention: bool = False) -> None:
    assert len({round(caption.score, 4) for n_best in expected for caption in n_best}) > 1
    for ours, others in zip(actual, expected, strict=True):
        assert [caption.tokens for caption in ours] == [caption.tokens for caption in others]
        np.testing.assert_allclose([c.score for c in ours], [c.score for c in others], atol=1e-4)
        for one, other in zip(ours, others, strict=True):
            assert (one.attention is not None) == (other.attention is not None) == has_attention
            if has_attention:
                assert one.attention.shape == (len(one.tokens), CELLS)
                np.testing.assert_allclose(one.attention, other.attention, atol=1e-4)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_captions_equal_those_of_torch(name, settings, exported):
    model, captioner = exported[name]
    images = features(6)
    expected = decode(model, torch.from_numpy(images), SPECIAL, settings, attention=True)
    actual, has_attention = decode(captioner, images, SPECIAL, settings, attention=True), "gpt2" not in name
    assert_same_captions(actual, expected, has_attention)
    single = decode(captioner, images[:1], SPECIAL, settings)
    assert [c.tokens for c in single[0]] == [c.tokens for c in expected[0]]


def test_prompts_and_ensembles_equal_those_of_torch(exported):
    models, captioners = zip(*exported.values(), strict=True)
    images, prompt = features(3), np.array([[5, 6], [7, 8], [9, 5]])
    for mean in ("probabilities", "log_probabilities"):
        expected = decode(Ensemble(models, mean), torch.from_numpy(images), SPECIAL, SETTINGS["n-best"], prompt)
        actual = decode(Ensemble(captioners, mean), images, SPECIAL, SETTINGS["n-best"], prompt)
        assert_same_captions(actual, expected)


def test_a_captioner_without_named_tensors_cannot_be_exported(tmp_path, monkeypatch):
    monkeypatch.delattr(clip_gpt2.PrefixState, "tensors")
    with pytest.raises(Unavailable, match="toy cannot be exported"):
        export(build("clip-gpt2"), tmp_path / "e")
    assert OnnxCaptioner(tmp_path / "e", FINGERPRINT).folder.export_error


@pytest.mark.parametrize("name", ["start.onnx", "start.bin", "step.onnx", "step.bin"])
def test_damaged_files_are_errors(name, exported, tmp_path):
    export(exported["show-attend-tell"][0], tmp_path / "e")
    (tmp_path / "e" / name).write_bytes(b"")
    with pytest.raises(BadData, match=name):
        OnnxCaptioner(tmp_path / "e", FINGERPRINT)
    with pytest.raises(MissingData):
        OnnxCaptioner(tmp_path / "nothing", FINGERPRINT)


def test_the_bundled_captioner_equals_torch(home):
    info = describe_model("starter-captioner")
    captioner, loaded = load_exported_captioner(info, SILENT), load_captioner(info, Compute("cpu", "fp32"))
    grid = load_backbone(info.name, info.meta, SILENT).encode(sample_images(260))
    settings = replace(loaded.decoding, num=3)
    actual, expected = (caption_features([one], [grid], settings, attention=True) for one in (captioner, loaded))
    for ours, others in zip(actual, expected, strict=True):
        assert [caption.text for caption in ours] == [caption.text for caption in others]
        assert ours[0].attention.shape == others[0].attention.shape
    assert len({n_best[0].text for n_best in expected}) > 1


@pytest.mark.parametrize("is_installed", [True, False])
def test_captioners_over_regions_need_torch(is_installed, monkeypatch):
    monkeypatch.setattr("xmodal_cli.inference.runtime.has_torch", lambda: is_installed)
    info = describe_model("starter-captioner")
    meta = replace(info.meta, backbone="faster-rcnn-resnet50", kind="regions")
    with pytest.raises(Unavailable, match="regions of faster-rcnn-resnet50 cannot be computed by onnxruntime") as error:
        load_backbone("toy", meta, SILENT)
    assert error.value.hint == ("use --runtime torch" if is_installed else INSTALL_ALL)


def test_the_runtime_can_be_selected(home):
    infos = [describe_model("starter-captioner")]
    chosen = [
        load_captioners(infos, CaptionRequest(compute=Compute("cpu", runtime=r)), 1, SILENT)[0].compute
        for r in ("auto", "onnx", "torch")
    ]
    assert [compute.runtime for compute in chosen] == ["onnx", "onnx", "torch"]
    with pytest.raises(ConfigError, match="CPU"):
        load_captioners(infos, CaptionRequest(compute=Compute(precision="bf16", runtime="onnx")), 1, SILENT)

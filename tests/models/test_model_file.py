"""The model file: written and read back unchanged, and an error for every kind of damage."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from xmodal_cli.errors import BadModel, MissingData
from xmodal_cli.models.model_file import FORMAT, KEY, ModelHeader, read_header, read_tensors, write_model
from xmodal_cli.version import __version__

HEADER = ModelHeader(
    kind="matcher",
    architecture={"name": "vse", "embed_dim": 4, "image_dim": 3},
    tokenizer='{"words": "ünïcödé"}',
    backbone={
        "backbone": "b",
        "fingerprint": "f",
        "kind": "global",
        "dim": 3,
        "preprocessing": {"side": 8},
        "crops": 1,
    },
    similarity="order",
    training={"optimizer": {"lr": 0.001}},
    dataset={"name": "toy", "splits": ["train"]},
    metrics={"rsum": 123.4},
)


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "weight": torch.randn(5, 3).T,  # not contiguous
        "half": torch.randn(4).half(),
        "bfloat16": torch.randn(4).bfloat16(),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
    }


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "model.safetensors"
    write_model(file, HEADER, tensors())
    return file


def test_a_written_file_is_read_back(model):
    header, read = read_header(model), read_tensors(model)
    assert replace(header, fingerprint="") == HEADER
    assert (header.version, header.format) == (__version__, FORMAT)
    assert header.meta.dim == 3
    assert set(read) == set(tensors())
    for name, value in tensors().items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)


def test_the_fingerprint_depends_only_on_the_weights(tmp_path):
    def fingerprint(header, weights):
        written = write_model(tmp_path / "m.safetensors", header, weights)
        assert read_header(tmp_path / "m.safetensors") == written
        return written.fingerprint

    first = fingerprint(HEADER, tensors())
    assert len(first) == 64
    assert fingerprint(replace(HEADER, metrics={}), dict(reversed(tensors().items()))) == first
    changed = tensors()
    changed["bfloat16"][2] += 1
    others = [changed, {**tensors(), "more": torch.zeros(1)}, {**tensors(), "none": torch.zeros(0, 4)}]
    others.append({**tensors(), "half": tensors()["half"].view(torch.bfloat16)})
    assert len({first, *(fingerprint(HEADER, weights) for weights in others)}) == 5


def test_reading_the_header_loads_neither_torch_nor_the_weights(model):
    code = (
        "import sys; from pathlib import Path\n"
        "from xmodal_cli.models.model_file import read_header\n"
        "from xmodal_cli.inference.models import describe_model\n"
        "assert read_header(Path(sys.argv[1])).similarity == describe_model(sys.argv[1]).similarity == 'order'\n"
        "print([m for m in ('torch', 'numba', 'transformers', 'faiss') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_weights_of_a_replaced_file_are_rejected(model):
    fingerprint = read_header(model).fingerprint
    assert set(read_tensors(model, fingerprint)) == set(tensors())
    write_model(model, HEADER, {**tensors(), "more": torch.zeros(1)})
    with pytest.raises(BadModel, match="replaced"):
        read_tensors(model, fingerprint)


@pytest.mark.parametrize("read", [read_header, read_tensors])
def test_a_missing_file_raises(tmp_path, read):
    with pytest.raises(MissingData, match=r"absent\.safetensors"):
        read(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1, -40])
@pytest.mark.parametrize("read", [read_header, read_tensors])
def test_a_truncated_file_raises(model, keep, read):
    model.write_bytes(model.read_bytes()[:keep])
    with pytest.raises(BadModel, match="truncated or not a safetensors file") as caught:
        read(model)
    assert str(model) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "content", [b"hello, I am a text file", b"\x80\x04\x95pickle", struct.pack("<Q", 2**60) + b"{}"]
)
def test_a_file_that_is_not_safetensors_raises(tmp_path, content):
    file = tmp_path / "odd.safetensors"
    file.write_bytes(content)
    with pytest.raises(BadModel, match="truncated or not a safetensors file"):
        read_header(file)


def test_a_folder_raises(tmp_path):
    with pytest.raises(BadModel):
        read_header(tmp_path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_a_safetensors_file_of_another_program_raises(tmp_path, metadata):
    file = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, file, metadata=metadata)
    with pytest.raises(BadModel, match="not an xmodal model"):
        read_header(file)


def headers():
    header = json.loads(json.dumps(HEADER.__dict__))
    yield "newer", json.dumps({**header, "format": FORMAT + 1}), f"has model format {FORMAT + 1}"
    yield "without format", json.dumps({k: v for k, v in header.items() if k != "format"}), "has model format None"
    yield "not JSON", "{", "has an invalid header"
    yield "a list", "[1, 2]", "has an invalid header"
    yield "an extra field", json.dumps({**header, "unknown": "red"}), "has an invalid header"
    yield "a missing field", json.dumps({k: v for k, v in header.items() if k != "tokenizer"}), "has an invalid header"
    yield "an invalid backbone record", json.dumps({**header, "backbone": {"unknown": "red"}}), "has an invalid header"
    yield "no sizes", json.dumps({**header, "architecture": {}}), "has an invalid header"


@pytest.mark.parametrize(("text", "message"), [pytest.param(t, s, id=name) for name, t, s in headers()])
def test_an_invalid_header_raises(tmp_path, text, message):
    file = tmp_path / "m.safetensors"
    save_file({"weight": torch.zeros(3)}, file, metadata={KEY: text})
    with pytest.raises(BadModel, match=message) as caught:
        read_header(file)
    assert str(file) in caught.value.message
    assert caught.value.hint

"""Files whose headers describe arrays and networks that would exhaust the memory are refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers.damage import check
from helpers.files_of_data import KINDS as DATA
from helpers.files_of_data import make_npz
from helpers.files_of_models import KINDS as MODELS


@pytest.mark.parametrize("shape", ["(1000000000, 2000)", "(4, 4)", "(-4, -3)", "(4, 3, 10**12)"])
def test_an_array_that_is_larger_than_its_data(shape: str, tmp_path: Path) -> None:
    import zipfile

    file = make_npz(tmp_path)
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    head, _, rest = members["images.npy"].partition(b"(4, 3)")
    padding = len(shape) - 6
    members["images.npy"] = head + shape.encode() + rest.replace(b" " * padding, b"", 1)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert check(DATA["npz"], file)


def test_an_archive_of_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from xmodal_cli.data import npz_files

    monkeypatch.setattr(npz_files, "_SMALL", 1000)
    zeros = {"images": np.zeros((10000, 30)), "texts": np.zeros((10, 30)), "image_of_caption": np.zeros(10, int)}
    np.savez_compressed(tmp_path / "zeros.npz", **zeros)
    assert check(DATA["npz"], tmp_path / "zeros.npz")


@pytest.mark.parametrize("key", ["embed_dim", "image_dim", "vocab_size", "num_layers"])
def test_an_architecture_that_is_larger_than_its_weights(key: str, tmp_path: Path) -> None:
    name = "captioner" if key == "num_layers" else "matcher"
    file = MODELS[name].make(tmp_path)
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    fields = json.loads(header["__metadata__"]["xmodal"])
    (fields["architecture"]["args"] if key == "num_layers" else fields["architecture"])[key] = (
        4000 if "num" in key else 4_000_000
    )
    header["__metadata__"]["xmodal"] = json.dumps(fields)
    other = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(other)) + other + content[8 + length :])
    assert check(MODELS[name], file)

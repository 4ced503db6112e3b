"""``xmodal models convert``: the same tensors, and no code is executed."""

from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import load_file

from xmodal_cli.inference.zero_shot import supports

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1, 2]), "b": torch.ones(2).half()}


class Evil:
    def __reduce__(self):
        return (print, ("a checkpoint ran code",))


WRAPPINGS = {
    "bare": lambda w: w,
    "state-dict": lambda w: {"state_dict": w, "epoch": 3, "optimizer": {"lr": 0.1}},
    "model": lambda w: {"model": w, "step": torch.tensor(1)},
    "deep": lambda w: {"model": {"state_dict": w}},
    "module": lambda w: {"state_dict": {f"module.{name}": value for name, value in w.items()}},
}


@pytest.mark.parametrize("kind", WRAPPINGS)
def test_tensors_are_found_and_unchanged(xmodal, tmp_path, kind):
    torch.save(WRAPPINGS[kind](WEIGHTS), tmp_path / "w.pt")
    result = xmodal("models", "convert", tmp_path / "w.pt", "--json").json
    assert result["file"] == str(tmp_path / "w.safetensors")
    assert (result["tensors"], result["parameters"]) == (3, 10)
    tensors = load_file(result["file"])
    assert tensors.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)


def test_tensors_that_share_memory_or_are_transposed(xmodal, tmp_path):
    table = torch.arange(6.0).view(2, 3)
    torch.save({"in": table, "out": table, "turned": table.T, "part": table[0]}, tmp_path / "w.bin")
    assert xmodal("models", "convert", tmp_path / "w.bin", "--out", tmp_path / "o.safetensors").code == 0
    tensors = load_file(tmp_path / "o.safetensors")
    assert torch.equal(tensors["out"], table) and torch.equal(tensors["turned"], table.T)
    assert torch.equal(tensors["part"], table[0])


def test_files_are_overwritten_only_with_force(xmodal, tmp_path):
    torch.save(WEIGHTS, tmp_path / "w.pth")
    (tmp_path / "w.safetensors").write_text("mine")
    outcome = xmodal("models", "convert", tmp_path / "w.pth")
    assert outcome.code == 1 and "already exists" in outcome.err and "--force" in outcome.err
    assert (tmp_path / "w.safetensors").read_text() == "mine"
    assert xmodal("models", "convert", tmp_path / "w.pth", "--force").code == 0
    assert load_file(tmp_path / "w.safetensors").keys() == WEIGHTS.keys()
    wrong = xmodal("models", "convert", tmp_path / "w.pth", "--out", tmp_path / "w.bin")
    assert wrong.code == 1 and ".safetensors" in wrong.err


def test_checkpoints_with_code_are_rejected(xmodal, tmp_path):
    torch.save({"w": torch.zeros(2), "args": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"w": Evil()}, protocol=2))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    for name in ("evil.pt", "plain.pt", "whole.pt"):
        outcome = xmodal("models", "convert", tmp_path / name)
        assert outcome.code == 1 and name in outcome.err and "run that code" in outcome.err
        assert "ran code" not in outcome.out + outcome.err
    assert not list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob(".*"))


def test_files_that_are_not_checkpoints(xmodal, tmp_path):
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "numbers.pt")
    torch.save(WEIGHTS, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:-200])
    (tmp_path / "junk.pt").write_bytes(b"junk")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "x.safetensors").write_bytes(b"")
    for name in ("numbers.pt", "cut.pt", "junk.pt", "empty.pt", "x.safetensors", "nowhere.pt"):
        outcome = xmodal("models", "convert", tmp_path / name)
        assert outcome.code == 1 and name in outcome.err and "hint:" in outcome.err
    assert [p.name for p in tmp_path.glob("*.safetensors")] == ["x.safetensors"]


def test_a_converted_checkpoint_is_a_matcher(xmodal, tiny_clip, tmp_path):
    name, network = tiny_clip("converted")
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "epoch_1.pt")
    result = xmodal("models", "convert", tmp_path / "epoch_1.pt", "--json").json
    other = f"{name.partition('@')[0]}@{result['file']}"
    assert supports(other)
    (tmp_path / "s.txt").write_text("a dog\n")
    vectors = []
    for model in (name, other):
        out = tmp_path / "v.safetensors"
        assert xmodal("features", "--model", model, "--text", tmp_path / "s.txt", "--out", out).code == 0
        vectors.append(load_file(out)["texts"])
    assert torch.equal(*vectors)

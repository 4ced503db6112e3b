"""``xmodal models convert``: a checkpoint of PyTorch's as a .safetensors file. Nothing in it is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.paths import atomic_path

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


def convert_checkpoint(file: Path, out: Path | None = None, force: bool = False) -> dict[str, Any]:
    """Write the tensors of ``file`` beside it, or to ``out``, under their own names and in their own number formats.

    A state dict inside the checkpoint is found, and a ``module.`` before every name is taken off. Gives what ``--json``
    prints. Raises MissingData, BadData for what would have to be unpickled, ConfigError for a target that is there.
    """
    from safetensors.torch import save_file

    from xmodal_cli.backbones.weights import read_checkpoint

    target = out or file.with_suffix(".safetensors")
    _check(file, target, force)
    tensors = read_checkpoint(file)
    # tensors that share memory are written once each: safetensors holds no aliases
    plain = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    with atomic_path(target) as draft:
        save_file(plain, draft, metadata={"format": "pt"})
    parameters = sum(tensor.numel() for tensor in plain.values())
    return {"file": str(target), "source": str(file), "tensors": len(plain), "parameters": parameters}


def _check(file: Path, target: Path, force: bool) -> None:
    if not file.is_file():
        raise MissingData(f"there is no file {file}", "give a checkpoint: .pt, .pth or .bin")
    if file.suffix not in SUFFIXES:
        hint = "it needs no converting" if file.suffix == ".safetensors" else f"known: {', '.join(SUFFIXES)}"
        raise BadData(f"{file} is no checkpoint of PyTorch's by its name", hint)
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target} does not end in .safetensors", "give --out such a name")
    if target.exists() and not force:
        raise ConfigError(f"{target} is already there", "--force writes over it, --out FILE writes elsewhere")

"""``xmodal models convert``: convert a PyTorch checkpoint to .safetensors without executing code in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.errors import BadData, ConfigError, MissingData
from xmodal_cli.file_identity import reason_not_regular
from xmodal_cli.output_files import check_writable
from xmodal_cli.paths import atomic_path

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """The written file, the checkpoint, and the numbers of tensors and parameters."""

    file: Path
    source: Path
    tensors: int
    parameters: int


def convert_checkpoint(file: Path, out: Path | None = None, force: bool = False) -> ConvertedCheckpoint:
    """Write the tensors of ``file`` to ``out``, or next to ``file``; names and dtypes are kept.

    A nested state dict is found, and a ``module.`` prefix of all names is removed. Raises MissingData, BadData for
    objects that would have to be unpickled, ConfigError if the target exists, StorageError if it
    cannot be written.
    """
    target = out or file.with_suffix(".safetensors")
    _check(file, target, force)
    from safetensors.torch import save_file

    from xmodal_cli.backbones.weights import read_checkpoint

    tensors = read_checkpoint(file)
    # tensors that share memory are copied: safetensors does not store aliases
    copies = {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}
    with atomic_path(target) as draft:
        save_file(copies, draft, metadata={"format": "pt"})
    parameters = sum(tensor.numel() for tensor in copies.values())
    return ConvertedCheckpoint(target, file, len(copies), parameters)


def _check(file: Path, target: Path, force: bool) -> None:
    if problem := reason_not_regular(file):
        raise MissingData(f"{file} {problem}", "give a checkpoint: .pt, .pth, .bin or .ckpt")
    if file.suffix not in SUFFIXES:
        hint = (
            "it is already in the .safetensors format"
            if file.suffix == ".safetensors"
            else f"supported: {', '.join(SUFFIXES)}"
        )
        raise BadData(f"{file} has an unsupported checkpoint extension", hint)
    if target.suffix != ".safetensors":
        raise ConfigError(f"{target} does not end with .safetensors", "give --out a name that ends with .safetensors")
    if target.exists() and not force:
        raise ConfigError(f"{target} already exists", "use --force to overwrite it, or choose another --out")
    check_writable(target)

"""The files that ``xmodal features --model`` writes: which file it is, and its arrays, safetensors or ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from xmodal_cli import paths
from xmodal_cli.errors import ConfigError
from xmodal_cli.evaluation.vectors_origin import VectorsOrigin
from xmodal_cli.output_files import check_output_file

SUFFIXES = (".safetensors", ".npz")


def target_file(out: Path | None, name: str) -> Path:
    """The file to write: ``out``, the file ``name`` in the folder ``out``, or a file in the cache.

    Raises ConfigError for its name, StorageError if it cannot be written or is another file.
    """
    if out is None:
        return paths.cache_dir() / "vectors" / f"{name}.safetensors"
    if out.suffix not in SUFFIXES and out.suffix and not out.is_dir():
        raise ConfigError(f"{out} has an unsupported extension", f"supported: {', '.join(SUFFIXES)}")
    file = out if out.suffix in SUFFIXES else out / f"{name}.safetensors"
    check_output_file(file, "--out", _is_vectors)
    return file


def _is_vectors(file: Path) -> bool:
    """Whether ``write_vectors`` wrote a file: it has vectors of texts, and is not a model."""
    try:
        if file.suffix == ".npz":
            with zipfile.ZipFile(file) as archive:
                return "texts.npy" in archive.namelist()
        with safe_open(file, "numpy") as opened:
            return "texts" in opened.keys()  # noqa: SIM118 - not a dictionary
    except (OSError, ValueError, zipfile.BadZipFile, SafetensorError):
        return False


def write_vectors(
    file: Path, arrays: Mapping[str, np.ndarray], similarity: str, origin: VectorsOrigin | None = None
) -> None:
    """Write ``arrays``, the name of their similarity, and what they are of. Raises StorageError."""
    with paths.atomic_path(file) as draft:
        if file.suffix == ".npz":
            with open(draft, "wb") as stream:
                more = {"similarity": np.array(similarity), **(origin.to_arrays() if origin else {})}
                np.savez(stream, **{**arrays, **more})  # type: ignore[arg-type]
        else:
            metadata = {"similarity": similarity, **(origin.to_strings() if origin else {})}
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, draft, metadata)

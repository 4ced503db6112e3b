"""The checks of ``xmodal doctor --verify``: the files that xmodal wrote, read as a whole, against their checksums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from xmodal_cli import paths
from xmodal_cli.doctor.finding import Finding, size
from xmodal_cli.doctor.software import is_light
from xmodal_cli.errors import XmodalError

AREA = "verified"
Verify = Callable[[Path], int]  # returns the number of bytes that were read; raises an XmodalError


def models() -> Iterator[Finding]:
    """The weights of models in runs and in the folder of models."""
    files = [*paths.runs_dir().glob("*/model.safetensors"), *paths.models_dir().glob("*.safetensors")]
    yield from _without_torch("models") if is_light() else _verify("models", files, _model)


def checkpoints() -> Iterator[Finding]:
    """The checkpoints that runs resume from."""
    files = paths.runs_dir().glob("*/last/state.safetensors")
    yield from _without_torch("checkpoints") if is_light() else _verify("checkpoints", files, _checkpoint)


def features() -> Iterator[Finding]:
    """The cached features of datasets."""
    return _verify("features", (file.parent for file in paths.cache_dir().glob("features/*/features.json")), _features)


def exports() -> Iterator[Finding]:
    """The models exported to ONNX."""
    return _verify("exports", (file.parent for file in paths.cache_dir().glob("*/*/export.json")), _export)


def indexes() -> Iterator[Finding]:
    """The databases and vectors of indexes."""
    from xmodal_cli.retrieval.registry import find_index, names

    return _verify("indexes", map(find_index, names()), _index)


def _verify(what: str, paths: Iterable[Path], verify: Verify) -> Iterator[Finding]:
    """One finding for all undamaged ones, and one for each that is damaged."""
    count = num_bytes = 0
    for path in sorted(paths):
        try:
            num_bytes += verify(path)
            count += 1
        except XmodalError as error:
            yield Finding(AREA, what, "fail", error.message, error.hint)
    yield Finding(AREA, what, "ok", f"{count} without damage, {size(num_bytes)}" if count else "none")


def _without_torch(what: str) -> Iterator[Finding]:
    yield Finding(AREA, what, "ok", "not verified: this needs torch")


def _model(file: Path) -> int:
    from xmodal_cli.models.model_file import read_header, read_tensors

    read_tensors(file, read_header(file).fingerprint)
    return file.stat().st_size


def _checkpoint(file: Path) -> int:
    from xmodal_cli.training.checkpoint import read_state

    read_state(file.parent)
    return file.stat().st_size


def _features(folder: Path) -> int:
    from xmodal_cli.features.store import open_store

    store = open_store(folder)
    store.verify()
    return sum(file.stat().st_size for file in store.files)


def _export(folder: Path) -> int:
    from xmodal_cli.inference.onnx_folder import verify_export

    return verify_export(folder)


def _index(folder: Path) -> int:
    from xmodal_cli.retrieval.integrity import check_index

    return check_index(folder).num_bytes

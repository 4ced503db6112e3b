"""Checks of ``XMODAL_HOME``, its contents, free disk space and download caches. Leaves no files behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli import paths
from xmodal_cli.doctor.finding import Finding, Status, size
from xmodal_cli.doctor.software import is_light
from xmodal_cli.errors import INSTALL_ALL, MissingData, UnknownName, XmodalError
from xmodal_cli.paths import expand_home
from xmodal_cli.shell_commands import model_word

if TYPE_CHECKING:
    from xmodal_cli.inference.models import ModelInfo
    from xmodal_cli.retrieval.metadata import IndexModel

AREA, STORED = "home", "stored"
WARN_BYTES, FAIL_BYTES = 5e9, 0.2e9  # free bytes: features of MS COCO take gigabytes, a model file 100 MB
SIZE_SECONDS = 0.5  # time limit for the size of one folder
MAX_NAMES = 8  # in one line


def location() -> Iterator[Finding]:
    """The home folder, and whether it is writable."""
    home = paths.home()
    found = f"{home} ({'from XMODAL_HOME' if os.environ.get('XMODAL_HOME') else 'the default; XMODAL_HOME moves it'})"
    reason = _not_writable(home)
    if reason:
        remedy = "change its permissions, or set XMODAL_HOME to a writable folder"
        yield Finding(AREA, "home", "fail", f"{found} cannot be written: {reason}", remedy)
    else:
        yield Finding(AREA, "home", "ok", found if home.exists() else f"{found}, not created yet")


def _not_writable(home: Path) -> str:
    """The reason why the folder is not writable, or ""; by writing a file, as permissions alone are not enough."""
    folder = next((p for p in (home, *home.parents) if p.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def sizes() -> Iterator[Finding]:
    """The size of each folder in the home; a lower bound if adding up takes longer than half a second."""
    folders = (paths.data_dir(), paths.runs_dir(), paths.models_dir(), paths.indexes_dir(), paths.cache_dir())
    parts = [f"{folder.name} {_size_of(folder)}" for folder in folders if folder.is_dir()]
    yield Finding(AREA, "sizes", "ok", ", ".join(parts) or "nothing yet")


def _size_of(folder: Path) -> str:
    total, deadline = 0, time.monotonic() + SIZE_SECONDS
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
                    if time.monotonic() > deadline:
                        return f"more than {size(total)}"
        except OSError:  # deleted in the meantime, or not readable
            continue
    return size(total)


def disks() -> Iterator[Finding]:
    """Free space for the home and the download caches, one finding per disk."""
    names: dict[int, list[str]] = {}
    free: dict[int, int] = {}
    for what, folder in (("home", paths.home()), ("torch hub", torch_hub()), ("Hugging Face", hugging_face())):
        existing = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
        device = existing.stat().st_dev
        names.setdefault(device, []).append(what)
        free.setdefault(device, shutil.disk_usage(existing).free)
    for device, on_device in names.items():
        yield _disk(", ".join(on_device), free[device], "home" in on_device)


def _disk(names: str, free: int, is_home: bool) -> Finding:
    found = f"{size(free)} free for {names}"
    if free >= WARN_BYTES:
        return Finding(AREA, "disk", "ok", found)
    status: Status = "fail" if free < FAIL_BYTES and is_home else "warn"
    if is_home:
        remedy = "delete files (the cache folder of the home can be recomputed), or set XMODAL_HOME to a larger disk"
    else:
        remedy = "delete files on that disk"
    return Finding(AREA, "disk", status, found, remedy)


def torch_hub() -> Path:
    """The folder of weights downloaded by torch."""
    cache = expand_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return expand_home(os.environ.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints"


def hugging_face() -> Path:
    """The download cache of huggingface_hub."""
    cache = expand_home(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    base = expand_home(os.environ.get("HF_HOME") or cache / "huggingface")
    return expand_home(os.environ.get("HF_HUB_CACHE") or base / "hub")


def downloads() -> Iterator[Finding]:
    """Weights downloaded by torch and huggingface_hub; none are required."""
    files = sorted(p.name for p in torch_hub().glob("*.pt*") if p.is_file())
    repos = sorted(p.name.removeprefix("models--").replace("--", "/") for p in hugging_face().glob("models--*"))
    for what, folder, names in (("torch hub", torch_hub(), files), ("Hugging Face", hugging_face(), repos)):
        yield Finding(
            "downloads", what, "ok", f"{_listed(names)} in {folder} ({_size_of(folder)})" if names else "none"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def defaults() -> Iterator[Finding]:
    """The default models. Raises BadData if the settings cannot be read."""
    from xmodal_cli.inference.defaults import default_models
    from xmodal_cli.inference.models import describe_model

    for kind, name in default_models().items():
        try:
            describe_model(name)
            yield Finding(AREA, f"default {kind}", "ok", name)
        except XmodalError as error:
            remedy = f"{error.hint}; or choose another default model: xmodal models default MODEL"
            yield Finding(AREA, f"default {kind}", "fail", error.message, remedy)


def datasets() -> Iterator[Finding]:
    """The registered datasets, and whether their paths exist."""
    from xmodal_cli.data.registry import list_registered

    exists = {name: path.exists() for name, path in list_registered().items()}
    yield Finding(STORED, "datasets", "ok", _listed([name for name in exists if exists[name]]) or "none yet")
    for name in (name for name in exists if not exists[name]):
        found = f"{list_registered()[name]} does not exist"
        yield Finding(STORED, f"dataset {name}", "warn", found, f"register its new path: xmodal data add {name} PATH")


def models() -> Iterator[Finding]:
    """The trained and imported models, and whether their files can be read."""
    from xmodal_cli.inference.models import describe_model, find_model, model_names
    from xmodal_cli.models.model_file import read_header

    names, broken = model_names(), list[Finding]()
    for name in names:
        try:
            read_header(find_model(name))
        except XmodalError as error:
            broken.append(Finding(STORED, f"model {name}", "fail", error.message, error.hint))
    readable = [name for name in names if f"model {name}" not in {f.what for f in broken}]
    yield Finding(STORED, "models", "ok", _listed(readable) or "none yet")
    yield from broken
    if is_light():
        yield from _not_exported([describe_model(name) for name in readable])


def _not_exported(infos: Sequence[ModelInfo]) -> Iterator[Finding]:
    """The models that cannot be used without torch."""
    from xmodal_cli.inference.existing_exports import is_exported

    if names := [info.name for info in infos if not is_exported(info)]:
        found = f"{_listed(names)}: not exported, which needs torch"
        remedy = f"use each once where torch is installed, with this XMODAL_HOME; or {INSTALL_ALL}"
        yield Finding(STORED, "models without torch", "warn", found, remedy)


def indexes() -> Iterator[Finding]:
    """The indexes, whether they can be read, and whether their models exist unchanged."""
    from xmodal_cli.inference.models import describe_model
    from xmodal_cli.retrieval.hints import index_command
    from xmodal_cli.retrieval.index import open_index
    from xmodal_cli.retrieval.registry import find_index, names

    readable, problems = list[str](), list[Finding]()
    for name in names():
        try:
            with open_index(find_index(name)) as index:
                model, count = index.metadata.model, len(index)
            readable.append(f"{name} ({count:,} photo{'s' * (count != 1)})")
            info = describe_model(model.source)
        except (MissingData, UnknownName) as error:
            hint = f"restore the model, or rebuild: {index_command('--model', 'M', '--rebuild', index=name)}"
            found = f"cannot be searched by text: {error.message}"
            problems.append(Finding(STORED, f"index {name}", "warn", found, hint))
        except XmodalError as error:
            hint = error.hint or f"rebuild it: {index_command('--rebuild', index=name)}"
            problems.append(Finding(STORED, f"index {name}", "fail", error.message, hint))
        else:
            if info.fingerprint != model.fingerprint:
                problems.append(_changed_model(name, model))
    yield Finding(STORED, "indexes", "ok", _listed(readable) or "none yet")
    yield from problems


def _changed_model(name: str, model: IndexModel) -> Finding:
    from xmodal_cli.retrieval.hints import index_command

    word = model_word(model.name, model.source)
    found = f"cannot be searched by text: the model {model.name} has changed since the index was built"
    remedy = f"rebuild it: {index_command('--model', word, '--rebuild', index=name)}"
    return Finding(STORED, f"index {name}", "warn", found, remedy)

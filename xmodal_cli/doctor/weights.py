"""Weights that come with the installation, byte for byte; and Java, for the figures that need it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from xmodal_cli import starter
from xmodal_cli.backbones.image import efficientnet_lite2
from xmodal_cli.backbones.text import minilm
from xmodal_cli.doctor.finding import Finding, size
from xmodal_cli.errors import XmodalError
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.metrics.java import NO_JAVA, jar

AREA = "weights"
JAVA_SECONDS = 20.0


class _Packaged(Protocol):
    """A backbone whose weights are a file of a package."""

    NAME: str
    PACKAGE: str
    FILE: str
    SHA256: str
    INSTALL: str


def towers() -> Iterator[Finding]:
    """The two towers that packages carry: there, and the published files."""
    for tower in (efficientnet_lite2, minilm):
        yield _tower(tower)


def _tower(tower: _Packaged) -> Finding:
    spec = find_spec(tower.PACKAGE)
    file = Path(next(iter(spec.submodule_search_locations or []), "") if spec else "") / tower.FILE
    if spec is None or not file.is_file():
        return Finding(AREA, tower.NAME, "fail", "its package is not installed", tower.INSTALL)
    digest = sha256_of(file)
    if digest != tower.SHA256:
        found = f"{file} is not the published file: sha256 {digest[:12]}..., not {tower.SHA256[:12]}..."
        return Finding(AREA, tower.NAME, "fail", found, tower.INSTALL)
    return Finding(AREA, tower.NAME, "ok", f"{size(file.stat().st_size)}, sha256 {digest[:12]}... as published")


def starters() -> Iterator[Finding]:
    """The two models that come with xmodal: there, and as they were shipped."""
    for name in starter.NAMES.values():
        file = starter.folder() / f"{name}.safetensors"
        try:
            starter.check(file)
            yield Finding(AREA, name, "ok", f"{size(file.stat().st_size)}, as shipped")
        except XmodalError as error:
            yield Finding(AREA, name, "fail", error.message, error.hint)


def java() -> Iterator[Finding]:
    """Java and METEOR's program; everything but METEOR and SPICE does without."""
    lacking = "METEOR and SPICE are left out of `xmodal eval`"
    program = shutil.which("java")
    if program is None:
        yield Finding("programs", "Java", "warn", f"there is none: {lacking}", NO_JAVA)
        return
    try:
        done = subprocess.run([program, "-version"], capture_output=True, check=True, timeout=JAVA_SECONDS)
        jar("meteor", "meteor-1.5.jar")
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("programs", "Java", "warn", f"{program} does not run ({error}): {lacking}", NO_JAVA)
    except XmodalError as error:
        yield Finding("programs", "Java", "warn", f"{error.message}: {lacking}", error.hint)
    else:
        told = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        yield Finding("programs", "Java", "ok", f"{told[0] if told else program}: for METEOR")

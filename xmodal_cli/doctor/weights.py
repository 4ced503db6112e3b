"""Checks of installed weights by their checksums, and of Java, which METEOR and SPICE need."""

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
from xmodal_cli.doctor.software import is_light
from xmodal_cli.errors import XmodalError
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.metrics.java import NO_JAVA, jar
from xmodal_cli.shell_commands import reinstall_hint

AREA = "weights"
JAVA_SECONDS = 20.0


class _Packaged(Protocol):
    """A backbone whose weights are a file in a Python package."""

    NAME: str
    PACKAGE: str
    FILE: str
    SHA256: str
    REQUIREMENT: str


def towers() -> Iterator[Finding]:
    """The two towers whose weights are Python packages: installed, with the published checksum."""
    for tower in (efficientnet_lite2, minilm):
        yield _tower(tower)


def _tower(tower: _Packaged) -> Finding:
    spec = find_spec(tower.PACKAGE)
    file = Path(next(iter(spec.submodule_search_locations or []), "") if spec else "") / tower.FILE
    if spec is None or not file.is_file():
        return Finding(AREA, tower.NAME, "fail", "its package is not installed", reinstall_hint(tower.REQUIREMENT))
    digest = sha256_of(file)
    if digest != tower.SHA256:
        found = f"{file} is not the published file: sha256 {digest[:12]}..., not {tower.SHA256[:12]}..."
        return Finding(AREA, tower.NAME, "fail", found, reinstall_hint(tower.REQUIREMENT))
    return Finding(AREA, tower.NAME, "ok", f"{size(file.stat().st_size)}, sha256 {digest[:12]}... as published")


def starters() -> Iterator[Finding]:
    """The two bundled models: present, with the published checksum."""
    for name in starter.NAMES.values():
        file = starter.folder() / f"{name}.safetensors"
        try:
            starter.check(file)
            yield Finding(AREA, name, "ok", f"{size(file.stat().st_size)}, sha256 as published")
        except XmodalError as error:
            yield Finding(AREA, name, "fail", error.message, error.hint)


def java() -> Iterator[Finding]:
    """Java and the program of METEOR; only METEOR and SPICE of ``xmodal eval`` need them."""
    if is_light():
        return
    consequence = "`xmodal eval` cannot compute METEOR and SPICE"
    program = shutil.which("java")
    if program is None:
        yield Finding("programs", "Java", "warn", f"not installed: {consequence}", NO_JAVA)
        return
    try:
        done = subprocess.run([program, "-version"], capture_output=True, check=True, timeout=JAVA_SECONDS)
        jar("meteor", "meteor-1.5.jar")
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("programs", "Java", "warn", f"{program} does not run ({error}): {consequence}", NO_JAVA)
    except XmodalError as error:
        yield Finding("programs", "Java", "warn", f"{error.message}: {consequence}", error.hint)
    else:
        lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
        yield Finding("programs", "Java", "ok", f"{lines[0] if lines else program}: for METEOR")

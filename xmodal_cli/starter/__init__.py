"""The two bundled models: a matcher and a captioner, trained on Flickr8k; see ``docs/starter.md``.

They are available under their names wherever a model is named. This module handles only files and checksums.
The weights are for research and education only, as is Flickr8k; the Apache License of the code does not cover them.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.errors import BadModel, MissingData
from xmodal_cli.file_identity import sha256_of

MATCHER, CAPTIONER = "starter", "starter-captioner"
NAMES = {"matcher": MATCHER, "captioner": CAPTIONER}  # by kind of model
SUMS = "sha256sums.txt"  # in the format of the program sha256sum
INSTALL = "reinstall xmodal from its clone: uv tool install --reinstall ."


def folder() -> Path:
    """The folder of the model files."""
    return Path(__file__).parent


def file_of(name: str) -> Path | None:
    """The file of the bundled model ``name``; None for any other name."""
    return folder() / f"{name}.safetensors" if name in NAMES.values() else None


def is_bundled(file: Path) -> bool:
    """Whether ``file`` is in the folder of the bundled models."""
    return file.suffix == ".safetensors" and file.parent.resolve() == folder().resolve()


def check(file: Path) -> None:
    """Verify the checksum of a bundled file; other files are not checked. Raises MissingData, BadModel."""
    if not is_bundled(file):
        return
    if not file.is_file():
        raise MissingData(f"the bundled model {file.stem} is missing from this installation of xmodal", INSTALL)
    if sha256_of(file) != _sums().get(file.name):
        raise BadModel(f"{file} does not have its published checksum: it was damaged or changed", INSTALL)


def _sums() -> dict[str, str]:
    """File name -> sha256 in hex; empty if the list cannot be read, so that no file passes."""
    try:
        lines = (folder() / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

"""The two models that come with xmodal: a matcher and a captioner, trained on Flickr8k; see ``docs/starter.md``.

Found wherever a model is asked for by name. Knows of files and checksums only.
The weights are for research and education only, as Flickr8k is; the Apache License of the code does not cover them.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.errors import BadModel, MissingData
from xmodal_cli.file_identity import sha256_of

MATCHER, CAPTIONER = "starter", "starter-captioner"
NAMES = {"matcher": MATCHER, "captioner": CAPTIONER}  # by kind of model
SUMS = "sha256sums.txt"  # as the program sha256sum writes and checks it
INSTALL = "install xmodal again, from its clone: uv tool install --reinstall ."


def folder() -> Path:
    """Where the files are."""
    return Path(__file__).parent


def file_of(name: str) -> Path | None:
    """The file of the shipped model ``name``; None for any other name."""
    return folder() / f"{name}.safetensors" if name in NAMES.values() else None


def is_shipped(file: Path) -> bool:
    """Whether ``file`` is one of the shipped ones."""
    return file.suffix == ".safetensors" and file.parent.resolve() == folder().resolve()


def check(file: Path) -> None:
    """Raises MissingData, BadModel for a shipped file that is not the one that was shipped; others pass."""
    if not is_shipped(file):
        return
    if not file.is_file():
        raise MissingData(f"the model {file.stem} is not in this installation of xmodal", INSTALL)
    if sha256_of(file) != _sums().get(file.name):
        raise BadModel(f"{file} is not the file that came with xmodal: it was damaged or changed", INSTALL)


def _sums() -> dict[str, str]:
    """File name -> sha256 in hex; empty where the list is gone, so that no file passes."""
    try:
        lines = (folder() / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

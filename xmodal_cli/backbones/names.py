"""Backbone names: ``NAME@FILE`` loads its weights from a local file. No heavy imports."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli import starter
from xmodal_cli.errors import MissingData
from xmodal_cli.file_identity import reason_not_regular
from xmodal_cli.paths import MODEL_FILE, expand_home, models_dir, runs_dir


def split_name(name: str) -> tuple[str, str]:
    """``NAME@FILE`` -> NAME and FILE, "" without a file."""
    base, _, file = name.partition("@")
    return base, file


def find_weights(file: str) -> Path:
    """The path ``file``, a file in the models folder of XMODAL_HOME, or the file of a run or model by name.

    Raises MissingData, and BadModel for a damaged bundled model.
    """
    given = expand_home(file)
    candidates = (given, models_dir() / given, given / MODEL_FILE, runs_dir() / given / MODEL_FILE)
    for path in (*candidates, models_dir() / f"{file}.safetensors", starter.file_of(file)):
        if path is not None and path.is_file():
            starter.check(path)
            return path.resolve()
    raise MissingData(
        f"the weights file {file} {reason_not_regular(given)}",
        f"give its full path, put it into {models_dir()}, or give the name of a run",
    )


def resolve_name(name: str) -> str:
    """``name`` with an absolute path in ``NAME@FILE``, so that it does not depend on the working directory."""
    base, file = split_name(name)
    given = expand_home(file)
    return f"{base}@{given.resolve()}" if file and given.is_file() else name


def kind_option(kind: str) -> str:
    """How a command sets the kind of features, in hints."""
    return f"--kind {kind} (in training --set features.kind={kind})"

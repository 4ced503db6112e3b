"""The parts of a backbone's name: ``NAME@FILE`` takes its weights from a local file. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli import starter
from xmodal_cli.errors import MissingData
from xmodal_cli.paths import MODEL_FILE, models_dir, runs_dir


def split_name(name: str) -> tuple[str, str]:
    """The name proper, and the file or ""."""
    base, _, file = name.partition("@")
    return base, file


def find_weights(file: str) -> Path:
    """``file`` as given, else in the models folder of XMODAL_HOME, else that of a run or model, shipped ones too.

    Raises MissingData, and BadModel for a shipped one that is damaged.
    """
    given = Path(file).expanduser()
    places = (given, models_dir() / given, given / MODEL_FILE, runs_dir() / given / MODEL_FILE)
    for path in (*places, models_dir() / f"{file}.safetensors", starter.file_of(file)):
        if path is not None and path.is_file():
            starter.check(path)
            return path.resolve()
    raise MissingData(
        f"there is no weights file {file}", f"give its full path, or put it into {models_dir()}; a run's name works too"
    )


def resolve_name(name: str) -> str:
    """The name under which the same weights are found from any folder: a file given from here gets its full path."""
    base, file = split_name(name)
    given = Path(file).expanduser()
    return f"{base}@{given.resolve()}" if file and given.is_file() else name

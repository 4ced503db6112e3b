"""Names of Hugging Face models: ``hf/NAME`` on the hub, or a folder with a ``config.json``. No heavy imports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.paths import expand_home
from xmodal_cli.shell_commands import xmodal_command

PREFIX = "hf/"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
FILES = (CONFIG, "tokenizer.json", WEIGHTS)  # required files of an encoder or language model
CAPTIONER_FILES = (CONFIG, "preprocessor_config.json", "tokenizer_config.json", WEIGHTS)
_PICKLED = "pytorch_model.bin"
_PART = r"[A-Za-z0-9_](?:(?!--|\.\.)[\w.-]){0,94}(?<![.-])"
_REPO = re.compile(f"{_PART}(/{_PART})?", re.ASCII)


def is_hugging_face_name(name: str) -> bool:
    """Whether ``name`` is a hub name or a model folder of the transformers library."""
    return name.startswith(PREFIX) or (bool(name) and (expand_home(name) / CONFIG).is_file())


def is_repo(name: str) -> bool:
    """Whether the hub can have a repository called ``name``."""
    return _REPO.fullmatch(name) is not None


def repo_of(name: str) -> str:
    """The repository of ``hf/NAME``. Raises ConfigError for a name that the hub cannot have."""
    repo = name.removeprefix(PREFIX)
    if not is_repo(repo):
        hint = "write hf/OWNER/NAME, such as hf/Salesforce/blip-image-captioning-base, or a folder without hf/"
        raise ConfigError(f"{name!r} cannot be a model of the Hugging Face hub", hint)
    return repo


def download_hint(repo: str, files: Sequence[str], next_step: str) -> str:
    """How to get the ``files`` of a repository without a connection to the hub; ``next_step`` uses the FOLDER."""
    command = f"`hf download {repo} --local-dir FOLDER`"
    return (
        f"where there is a network, {command} downloads {_listed(files)} of https://huggingface.co/{repo}; copy FOLDER "
        f"here and {next_step}"
    )


def check_folder(what: str, folder: Path, files: Sequence[str]) -> None:
    """Raise MissingData that lists all of ``files`` that ``folder`` does not have; ``what`` is the model.

    Weights may be in several files.
    """
    missing = [file for file in files if not (folder / file).is_file()]
    if WEIGHTS in missing and any(folder.glob("model-*.safetensors")):
        missing.remove(WEIGHTS)
    if missing:
        raise MissingData(f"{what} is missing {_listed(missing)} in {folder}", _missing_hint(folder, missing))


def _missing_hint(folder: Path, missing: Sequence[str]) -> str:
    others = [file for file in missing if file != WEIGHTS]
    hints = []
    if others or not (folder / _PICKLED).is_file():
        wanted = missing if not (folder / _PICKLED).is_file() else others
        hints.append(f"download {_listed(wanted)} of this model into the folder")
    if WEIGHTS in missing and (folder / _PICKLED).is_file():
        command = xmodal_command("models", "convert", folder / _PICKLED, "--out", folder / WEIGHTS)
        hints.append(f"`{command}`")
    return ", then ".join(hints)


def _listed(files: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(files[:-1]), files[-1])))

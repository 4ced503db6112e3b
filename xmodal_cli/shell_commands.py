"""Commands in hints, quoted so that they work when they are pasted into a shell."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from xmodal_cli import paths


def xmodal_command(*words: str | Path) -> str:
    """The command ``xmodal`` with ``words``; a path that begins with a dash would be read as an option: ``./-a``."""
    import shlex  # only errors need it

    return shlex.join(["xmodal", *map(_word, words)])


def model_word(name: str, source: str) -> str:
    """What a command takes for the model that was loaded from ``source``: its name if that finds it, else its path."""
    if source == name:
        return name
    file = Path(source)
    stored = (paths.runs_dir() / name / paths.MODEL_FILE, paths.models_dir() / f"{name}.safetensors")
    if not name.startswith("-") and file in [path.resolve() for path in stored]:
        return name
    return str(file.parent if file.name == paths.MODEL_FILE else file)


def _word(word: str | Path) -> str:
    return f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word)


@cache  # images of one format have the same hint
def install_command(*requirements: str) -> str:
    """The command that installs packages into the environment of this xmodal, by pip if it is there, else by uv."""
    packages = " ".join(map(_quoted, requirements))
    if find_spec("pip") is not None:
        return f"{_quoted(sys.executable)} -m pip install {packages}"
    return f"uv pip install --python {_quoted(sys.executable)} {packages}"


def reinstall_hint(requirement: str) -> str:
    """The hint for a package that is damaged or not installed."""
    return f"reinstall it: {install_command('--force-reinstall', requirement)}"


def _quoted(word: str) -> str:
    """In double quotes, which all shells have, the one of Windows too."""
    return f'"{word}"' if any(c in word for c in "<>! ") else word

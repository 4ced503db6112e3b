"""Commands in hints, quoted so that they work when they are pasted into a shell."""

from __future__ import annotations

import sys
from functools import cache
from importlib.util import find_spec


def xmodal_command(*words: str) -> str:
    """The command ``xmodal`` with ``words``."""
    import shlex  # only errors need it

    return shlex.join(["xmodal", *words])


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

"""Commands in hints, quoted so that they work when they are pasted into a shell."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli import paths
from xmodal_cli.shell_commands import xmodal_command


def index_name(folder: Path) -> str:
    """What ``--index`` takes for an index: its name if it is in ``XMODAL_HOME``, else its path."""
    return folder.name if folder.parent == paths.absolute_path(paths.indexes_dir()) else str(folder)


def index_command(*words: str, index: str = "") -> str:
    """The command ``xmodal index`` with ``words``, and with ``--index`` if ``index`` is not empty."""
    return xmodal_command("index", *words, *(["--index", index] if index else []))


def update_command(folder: Path) -> str:
    """The command that updates the index ``folder``."""
    return index_command(index=index_name(folder))


def rebuild_hint(folder: Path, *words: str) -> str:
    """The hint to rebuild a damaged index; ``words`` are its folders if it does not know them itself."""
    return f"rebuild the index: {index_command(*words, '--rebuild', index=index_name(folder))}"

"""The training runs of this machine, by name."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.errors import UnknownName
from xmodal_cli.paths import numbered_names, runs_dir
from xmodal_cli.training.run_records import RunRecord, find_runs, read_run


class RunService:
    """Runs in ``folder``, by default those in ``XMODAL_HOME``."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def folders(self) -> list[str]:
        """Where runs are searched."""
        return [str(self._folder or runs_dir())]

    def runs(self) -> list[RunRecord]:
        """All runs, by name."""
        return [read_run(folder, name) for name, folder in self._find().items()]

    def run(self, name: str) -> RunRecord:
        """The run with this name, never a path. Raises UnknownName."""
        found = self._find()
        if name not in found:
            raise UnknownName.of("run", name, found)
        return read_run(found[name], name)

    def _find(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in find_runs(self._folder or runs_dir()):
            name = next(name for name in numbered_names(folder.name or str(folder)) if name not in found)
            found[name] = folder
        return found

"""The training runs of this machine, by name."""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.errors import UnknownName
from xmodal_cli.paths import numbered_names, runs_dir
from xmodal_cli.training.run_records import RunRecord, files_state, find_runs, read_run


class RunService:
    """Runs in ``folder``, by default those in ``XMODAL_HOME``. Logs are read again only if their run has changed."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._records: dict[Path, tuple[tuple[object, ...], RunRecord]] = {}

    @property
    def folders(self) -> list[str]:
        """Where runs are searched."""
        return [str(self._folder or runs_dir())]

    def runs(self) -> list[RunRecord]:
        """All runs, by name."""
        found = self._find()
        self._records = {folder: self._records[folder] for folder in found.values() if folder in self._records}
        return [self._read(folder, name) for name, folder in found.items()]

    def run(self, name: str) -> RunRecord:
        """The run with this name, never a path. Raises UnknownName."""
        found = self._find()
        if name not in found:
            raise UnknownName.of("run", name, found)
        return self._read(found[name], name)

    def _read(self, folder: Path, name: str) -> RunRecord:
        state = files_state(folder)
        known_state, record = self._records.get(folder, (None, None))
        if record is None or record.name != name or known_state != state:
            record = read_run(folder, name)
            self._records[folder] = state, record
        return record

    def _find(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for folder in find_runs(self._folder or runs_dir()):
            name = next(name for name in numbered_names(folder.name or str(folder)) if name not in found)
            found[name] = folder
        return found

"""Reports on the retrieval results of the models of runs: ``xmodal eval --report`` in a process of its own.

The server does not import torch, and a model that does not fit in memory ends that process only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from xmodal_cli.errors import ConfigError, XmodalError
from xmodal_cli.paths import MODEL_FILE
from xmodal_cli.printable import escape_unprintable
from xmodal_cli.reports.pages import REPORT
from xmodal_cli.training.run_records import RunRecord

MAX_REPORTS = 8  # kept in memory, of about 1 MB each
STOP_SECONDS = 5.0
Key = tuple[Path, int, str]  # folder of the run, time of its model, split


@dataclass
class Report:
    """A report that is being computed, done (``page``) or failed (``error``); ``progress`` is its state in words."""

    progress: str = "loading the model"
    page: bytes = b""
    error: XmodalError | None = None


class RunReports:
    """Computes one report at a time. Its methods can be called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reports: dict[Key, Report] = {}
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[str] | None = None

    def report(self, run: RunRecord, split: str) -> Report:
        """The report on a split of the run's data, which is started if there is none.

        Raises ConfigError for a run without a model, and while another report is being computed.
        """
        if not run.has_model:
            raise ConfigError(f"the run {run.name} has no model yet", "wait for its first evaluation on val")
        key = (run.folder, (run.folder / MODEL_FILE).stat().st_mtime_ns, split)
        with self._lock:
            if key in self._reports:
                return self._reports[key]
            if self._thread is not None and self._thread.is_alive():
                raise ConfigError("another report is being computed", "open this page again when it is done")
            for old in [*self._reports][: len(self._reports) + 1 - MAX_REPORTS]:
                del self._reports[old]
            report = self._reports[key] = Report()
            self._thread = threading.Thread(target=self._compute, args=(run, split, report), name="report", daemon=True)
            self._thread.start()
        return report

    def forget(self, report: Report) -> None:
        """Compute a failed report again when it is requested again."""
        with self._lock:
            self._reports = {key: other for key, other in self._reports.items() if other is not report}

    def close(self) -> None:
        """End the process of a report that is being computed."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()

    def _compute(self, run: RunRecord, split: str, report: Report) -> None:
        try:
            with tempfile.TemporaryDirectory(prefix="xmodal-report-") as folder:
                lines = self._run(run, split, Path(folder), report)
                page = Path(folder) / REPORT
                if page.is_file():
                    report.page = page.read_bytes()
                else:
                    report.error = _error_in(lines)
        except OSError as error:
            report.error = XmodalError(f"the report cannot be computed: {error.strerror}", "free memory or disk space")

    def _run(self, run: RunRecord, split: str, folder: Path, report: Report) -> list[str]:
        """The lines that the command prints; the last one is the progress."""
        model, options = run.folder / MODEL_FILE, (f"--data={run.data}", f"--split={split}", f"--report={folder}")
        command = [sys.executable, "-m", "xmodal_cli", "eval", str(model), *options]
        lines: list[str] = []
        nothing, pipe = subprocess.DEVNULL, subprocess.PIPE
        with subprocess.Popen(
            command, stdin=nothing, stdout=nothing, stderr=pipe, encoding="utf-8", errors="replace"
        ) as self._process:
            assert self._process.stderr is not None
            for line in self._process.stderr:
                lines.append(escape_unprintable(line.rstrip()))
                report.progress = lines[-1]
        return lines


def _error_in(lines: list[str]) -> XmodalError:
    """The error that the command has printed in two lines."""
    found = {kind: text for kind, _, text in (line.partition(": ") for line in lines) if kind in ("error", "hint")}
    return XmodalError(found.get("error", "the evaluation has ended without a report"), found.get("hint", ""))

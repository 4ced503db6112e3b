"""Runs that change an index, in a forked process that is killed: at a line of the code, or with SIGKILL after a time.

The process forks for each request; see ``helpers.request_server``.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from helpers.index_fixtures import FakeEmbedder, index_model
from helpers.request_server import RequestServer
from xmodal_cli.data.scan import scan_roots
from xmodal_cli.retrieval import cell_training, file_embedding, merging, missing_facts, vector_import, writer
from xmodal_cli.retrieval.calibration import calibrate_index
from xmodal_cli.retrieval.update import IndexRequest, update_index
from xmodal_cli.retrieval.vector_files import find_vector_files
from xmodal_cli.retrieval.vector_import import import_vectors

_TRACED = "/xmodal_cli/retrieval/"  # every call of its functions is a moment, and every line of these files
_LINES = ("writer.py", "rebuild.py", "upgrade.py", "merging.py", "vector_import.py", "missing_facts.py", "segments.py")


class KillServer(RequestServer):
    """``run`` returns whether a run was killed, and its number of moments or its seconds if it was not."""

    def __init__(self) -> None:
        super().__init__("helpers.killed_runs")

    def run(
        self, what: str, photos: Path, index: Path, moment: int = 0, seconds: float | None = None
    ) -> tuple[bool, float]:
        request = {"what": what, "photos": str(photos), "index": str(index), "moment": moment, "seconds": seconds}
        killed, size = self.request(request)
        return bool(killed), float(size)


def _serve() -> None:
    for name in ("faiss", "onnxruntime", "xmodal_cli.data.images"):  # once, and not in every run
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        reader, writer = os.pipe()
        started = time.monotonic()
        if (child := os.fork()) == 0:
            os.write(writer, str(_work(request)).encode())
            os._exit(0)
        os.close(writer)
        if not select.select([reader], [], [], request["seconds"])[0]:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        seconds, code = time.monotonic() - started, os.waitstatus_to_exitcode(status)
        if code not in (0, 9, -signal.SIGKILL):
            raise RuntimeError(f"the run failed with {code}")
        num_moments = os.read(reader, 100)
        os.close(reader)
        size = float(num_moments) if request["seconds"] is None and num_moments else seconds
        print(json.dumps([code != 0, size]), flush=True)


def _work(request: dict[str, Any]) -> int:
    """Change the index; returns the number of moments, and ends the process at that of the request."""
    what, photos, index = request["what"], Path(request["photos"]), Path(request["index"])
    file_embedding.COMMIT_VECTORS, merging.FANOUT, vector_import.LARGEST = 4, 2, 10
    missing_facts.COMMIT_PHOTOS = missing_facts._BLOCK = 2
    if what in ("cells", "import"):
        cell_training.MIN_VECTORS = vector_import.MIN_VECTORS = 8
        writer.MIN_SORTED = merging.MIN_SORTED = 4
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if _TRACED in frame.f_code.co_filename or frame.f_code.co_name in ("atomic_path", "write_lock"):
            count += 1
            if count == request["moment"]:
                os._exit(9)
            return trace if frame.f_code.co_filename.endswith(_LINES) else None
        return None

    if request["seconds"] is None:
        sys.settrace(trace)
    if what == "import":
        import_vectors(index, photos, find_vector_files(photos), index_model(), replace=True)
    else:
        update_index(index, IndexRequest(scan_roots([photos]), index_model(), rebuild=what == "rebuild"), FakeEmbedder)
    calibrate_index(index, None)
    sys.settrace(None)
    return count


if __name__ == "__main__":
    _serve()

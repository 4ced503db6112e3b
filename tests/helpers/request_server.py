"""A process that runs a module of these helpers and gives one line of JSON for each that it receives.

It forks for each request, because a process with threads, such as that of pytest, should not fork.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class RequestServer:
    """``python -m MODULE ARGUMENTS`` until the end of the context; its results depend on one thread."""

    def __init__(self, module: str, *arguments: str, **environment: str) -> None:
        folder = str(Path(__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1", **environment}
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def request(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate("")

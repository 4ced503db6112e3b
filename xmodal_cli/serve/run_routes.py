"""The routes of training runs: the pages ``/runs`` and ``/runs/report``, and the API ``/api/runs``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from xmodal_cli.errors import XmodalError
from xmodal_cli.result_json import to_json
from xmodal_cli.serve.cache_headers import NO_CACHE, REFRESH
from xmodal_cli.serve.disconnects import while_connected
from xmodal_cli.serve.notices import draw_notice, error_page
from xmodal_cli.serve.result_response import ResultResponse
from xmodal_cli.serve.run_pages import draw_runs_page
from xmodal_cli.serve.run_reports import RunReports
from xmodal_cli.serve.run_service import RunService
from xmodal_cli.serve.settings import ServeSettings
from xmodal_cli.serve.worker import Worker
from xmodal_cli.training.run_records import RunRecord

# A report is a file with its style and images in it; it has no scripts
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
DEFAULT_SPLIT = "val"
_RECORDS = ("steps", "evals", "settings")


class RunRoutes:
    """Runs are addressed by name, never by a path."""

    def __init__(self, settings: ServeSettings) -> None:
        self._service, self._reports = RunService(settings.runs), RunReports()
        self._worker = Worker("runs", settings.max_waiting)

    def routes(self) -> Sequence[Route]:
        """The routes."""
        return [
            Route("/runs", self.page),
            Route("/runs/report", self.report),
            Route("/api/runs", self.list),
            Route("/api/runs/{name:str}", self.run),
        ]

    async def page(self, request: Request) -> Response:
        """All runs, and those of the parameters ``run`` side by side."""
        runs = await while_connected(request, self._worker.run(self._service.runs))
        text = draw_runs_page(runs, request.query_params.getlist("run"), self._service.folders)
        return HTMLResponse(text, headers=NO_CACHE)

    async def report(self, request: Request) -> Response:
        """The report on the model of a run, or its error; while it is being computed, a page that is reloaded."""
        name, split = request.query_params.get("run", ""), request.query_params.get("split", DEFAULT_SPLIT)
        title = f"{name[:100]} on {split[:100]}"
        try:
            report = self._reports.report(await self._run(request, name), split)
        except XmodalError as error:
            return error_page(title, error)
        if report.error is not None:
            self._reports.forget(report)
            return error_page(title, report.error)
        if report.page:
            return HTMLResponse(report.page, headers=NO_CACHE | {"Content-Security-Policy": REPORT_POLICY})
        text = draw_notice(title, "The report is being computed, and shown here when it is done.", report.progress)
        return HTMLResponse(text, 202, NO_CACHE | REFRESH)

    async def list(self, request: Request) -> Response:
        """``GET /api/runs``: the runs without their records."""
        runs = await while_connected(request, self._worker.run(self._service.runs))
        return ResultResponse({"runs": [_without_records(run) for run in runs]})

    async def run(self, request: Request) -> Response:
        """``GET /api/runs/NAME``: a run with its settings and the records of its log."""
        return ResultResponse(await self._run(request, request.path_params["name"]))

    async def _run(self, request: Request, name: str) -> RunRecord:
        return await while_connected(request, self._worker.run(partial(self._service.run, name)))

    def close(self) -> None:
        """Cancel what waits, and end a report that is being computed."""
        self._worker.close()
        self._reports.close()


def _without_records(run: RunRecord) -> dict[str, object]:
    return {name: value for name, value in to_json(run).items() if name not in _RECORDS}

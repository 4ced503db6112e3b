"""The routes of the dataset browser: the pages ``/datasets`` and the API ``/api/datasets``.

Images are addressed by the name of their dataset and their position in it, never by a path.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from xmodal_cli.errors import MissingData, XmodalError
from xmodal_cli.result_json import to_json
from xmodal_cli.serve.browsed_dataset import VERSION
from xmodal_cli.serve.cache_headers import FOREVER, NO_CACHE, REFRESH
from xmodal_cli.serve.dataset_pages import draw_dataset_page, draw_datasets_page, draw_image_page
from xmodal_cli.serve.dataset_request import read_browse_request
from xmodal_cli.serve.dataset_service import DatasetService, ListedDataset
from xmodal_cli.serve.disconnects import while_connected
from xmodal_cli.serve.notices import draw_notice, error_page
from xmodal_cli.serve.photo_views import HEIGHTS, PhotoViews
from xmodal_cli.serve.result_response import ResultResponse
from xmodal_cli.serve.settings import ServeSettings
from xmodal_cli.serve.worker import Worker

Result = TypeVar("Result")
READING_SECONDS = 3.0  # after which a page reports that a dataset is being read
_VIEW_THREADS = 2
_LISTED = ("format", "images", "captions", "splits", "split_captions", "missing_images", "precomputed")


class DatasetRoutes:
    """Datasets are read in one thread, which also searches their captions; views are made in others."""

    def __init__(self, settings: ServeSettings) -> None:
        self._service, self._views = DatasetService(), PhotoViews()
        self._worker = Worker("datasets", 8 * settings.max_waiting)
        self._view_worker = Worker("dataset-views", 8 * settings.max_waiting, _VIEW_THREADS)

    def routes(self) -> list[Route]:
        """The routes."""
        return [
            Route("/datasets", self.list_page),
            Route("/datasets/{dataset:str}", self.page),
            Route("/datasets/{dataset:str}/images/{position:number}", self.image_page),
            Route("/api/datasets", self.list),
            Route("/api/datasets/{dataset:str}", self.browse),
            Route("/api/datasets/{dataset:str}/images/{position:number}/{kind:str}", self.view),
        ]

    async def list_page(self, request: Request) -> Response:
        """The datasets that ``--data`` accepts."""
        end = asyncio.get_running_loop().time() + READING_SECONDS
        try:
            listed = [ListedDataset(one) for one in await self._run(request, self._service.known)]
            is_reading = False
            for position, one in enumerate(listed):
                left = end - asyncio.get_running_loop().time()
                described = await self._try_run(request, partial(self._service.describe, one.known), max(left, 0.01))
                is_reading = is_reading or described is None
                listed[position] = described or one
        except XmodalError as error:
            return error_page("Datasets", error)
        return HTMLResponse(
            draw_datasets_page(listed, is_reading), headers={**NO_CACHE, **(REFRESH if is_reading else {})}
        )

    async def page(self, request: Request) -> Response:
        """A page of the images of a dataset."""
        name = request.path_params["dataset"]

        def draw() -> str:
            parsed = read_browse_request(request.query_params)
            return draw_dataset_page(self._service.browse(name, parsed), parsed)

        return await self._page(request, draw)

    async def image_page(self, request: Request) -> Response:
        """The page of one image."""
        find = partial(self._service.image, request.path_params["dataset"], request.path_params["position"])
        return await self._page(request, lambda: draw_image_page(*find()))

    async def _page(self, request: Request, draw: Callable[[], str]) -> Response:
        """The page that ``draw`` returns, or its error; while the dataset is being read, a page that is reloaded."""
        try:
            text = await self._try_run(request, draw, READING_SECONDS)
        except XmodalError as error:
            return error_page("Datasets", error)
        if text is not None:
            return HTMLResponse(text, headers=NO_CACHE)
        title = f"Reading {request.path_params['dataset'][:100]} …"
        text = draw_notice(title, "Its captions and the names of its images are read once.")
        return HTMLResponse(text, 202, {**NO_CACHE, **REFRESH})

    async def list(self, request: Request) -> Response:
        """``GET /api/datasets``: the names that ``--data`` accepts, with the counts of those that are present."""
        known = await self._run(request, self._service.known)
        listed = [_to_json(await self._run(request, partial(self._service.describe, one))) for one in known]
        return ResultResponse({"datasets": listed})

    async def browse(self, request: Request) -> Response:
        """``GET /api/datasets/f8k?split=val&q=two+dogs&page=2``."""
        parsed = read_browse_request(request.query_params)
        call = partial(self._service.browse, request.path_params["dataset"], parsed)
        return ResultResponse(await self._run(request, call))

    async def view(self, request: Request) -> Response:
        """A thumbnail or a large view of an image, WebP."""
        kind = request.path_params["kind"]
        if kind not in HEIGHTS:
            raise MissingData(f"an image has no {kind[:40]!r}", f"known: {', '.join(HEIGHTS)}")
        find = partial(self._service.file, request.path_params["dataset"], request.path_params["position"])
        path, version = await self._run(request, find)
        make = partial(self._views.view_of, version, lambda: path, kind)
        content = await while_connected(request, self._view_worker.run(make))
        is_current = request.query_params.get("v") == version[:VERSION]
        return Response(content, 200, FOREVER if is_current else NO_CACHE, "image/webp")

    def close(self) -> None:
        """Cancel the calls that wait."""
        self._worker.close()
        self._view_worker.close()

    async def _run(self, request: Request, call: Callable[[], Result]) -> Result:
        return await while_connected(request, self._worker.run(call))

    async def _try_run(self, request: Request, call: Callable[[], Result], seconds: float) -> Result | None:
        """The result, or None if it takes longer; the thread finishes a call that it has begun."""
        try:
            return await asyncio.wait_for(self._run(request, call), seconds)
        except TimeoutError:
            return None


def _to_json(one: ListedDataset) -> dict[str, Any]:
    known: dict[str, Any] = to_json(one.known)
    if one.facts is not None:
        facts = to_json(one.facts)
        return {**known, **{name: facts[name] for name in _LISTED}}
    return {**known, "error": one.error, "hint": one.hint} if one.error else known

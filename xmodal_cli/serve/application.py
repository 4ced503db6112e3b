"""The Starlette application: the page, its scripts and styles, and the API, behind the guard."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from xmodal_cli.errors import XmodalError, path_message
from xmodal_cli.serve.api import Api
from xmodal_cli.serve.cache_headers import NO_CACHE
from xmodal_cli.serve.convertors import register_convertors
from xmodal_cli.serve.dataset_routes import DatasetRoutes
from xmodal_cli.serve.guard import Guard
from xmodal_cli.serve.problems import problem, problem_of
from xmodal_cli.serve.run_routes import RunRoutes
from xmodal_cli.serve.settings import ServeSettings

_FOLDER = Path(__file__).parent


def create_app(settings: ServeSettings) -> Starlette:
    """The application for an ASGI server."""
    register_convertors()
    api, datasets, runs = Api(settings), DatasetRoutes(settings), RunRoutes(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        api.start()
        yield
        await api.close()
        datasets.close()
        await to_thread(runs.close)

    return Starlette(
        routes=[
            Route("/", _page),
            *api.routes(),
            *runs.routes(),
            *datasets.routes(),
            Mount("/static", StaticFiles(directory=_FOLDER / "static")),
        ],
        middleware=[Middleware(Guard, settings=settings)],
        exception_handlers={XmodalError: problem_of, HTTPException: _http_problem, Exception: _bug},
        lifespan=lifespan,
    )


async def _page(request: Request) -> Response:
    return HTMLResponse(_page_text(), headers=NO_CACHE)


@cache
def _page_text() -> str:
    return (_FOLDER / "static" / "index.html").read_text(encoding="utf-8")


def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))


def _bug(request: Request, error: Exception) -> Response:
    bug = (f"internal error ({type(error).__name__})", "this is a bug: please report it")
    return problem(500, *(path_message(error) or bug))

"""The HTTP API: searches, captions and views of indexed photos. Photos are addressed by their keys, never by a path."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from xmodal_cli.data.camera_facts import read_camera_facts
from xmodal_cli.errors import ConfigError, MissingData
from xmodal_cli.result_json import to_json
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.items import IndexedItem
from xmodal_cli.serve.api_page import api_page
from xmodal_cli.serve.cache_headers import FOREVER, NO_CACHE
from xmodal_cli.serve.caption_service import CaptionService
from xmodal_cli.serve.disconnects import while_connected
from xmodal_cli.serve.openapi import openapi_document
from xmodal_cli.serve.photo_archive import Archives, existing_files, read_keys
from xmodal_cli.serve.photo_views import HEIGHTS, PhotoViews, existing_file
from xmodal_cli.serve.problems import problem
from xmodal_cli.serve.result_response import ResultResponse
from xmodal_cli.serve.search_request import read_request, read_sentences
from xmodal_cli.serve.search_service import SearchService
from xmodal_cli.serve.settings import LOCAL_HOSTS, ServeSettings
from xmodal_cli.serve.uploads import uploaded_photos, without_folder
from xmodal_cli.serve.watcher import Watcher, index_updater
from xmodal_cli.serve.worker import Worker
from xmodal_cli.version import __version__
from xmodal_cli.viewer import show_in_folder

Result = TypeVar("Result")
VIEW_THREADS = 2


class Api:
    """The endpoints. Searches, captions and views each have their own threads."""

    def __init__(self, settings: ServeSettings) -> None:
        self.settings = settings
        self._searches = SearchService(settings.index, settings.runtime)
        self._captions = CaptionService(settings.runtime)
        self._views, self._archives = PhotoViews(), Archives()
        self._watcher = _new_watcher(settings) if settings.watch else None
        self._search_worker = Worker("search", settings.max_waiting)
        self._caption_worker = Worker("caption", settings.max_waiting)
        self._view_worker = Worker("view", 8 * settings.max_waiting, VIEW_THREADS)

    def routes(self) -> list[Route]:
        """The routes below ``/api``."""
        return [
            Route("/api/status", self.status),
            Route("/api/indexes", self.indexes),
            Route("/api/search", self.search, methods=["GET"]),
            Route("/api/search", self.search_photos, methods=["POST"]),
            Route("/api/similar", self.similar),
            Route("/api/embed", self.embed, methods=["GET"]),
            Route("/api/embed", self.embed_photos, methods=["POST"]),
            Route("/api/updates", self.updates),
            Route("/api/openapi.json", self.openapi),
            Route("/api/docs", self.docs),
            Route("/api/caption", self.caption),
            Route("/api/captioners", self.captioners),
            Route("/api/archive", self.archive),
            Route("/api/photos/{key:number}", self.photo),
            Route("/api/photos/{key:number}/show", self.show, methods=["POST"]),
            Route("/api/photos/{key:number}/file", self.file),
            Route("/api/photos/{key:number}/{kind:str}", self.view),
        ]

    async def status(self, request: Request) -> Response:
        """The version, whether there is an index, and whether the client is on this machine."""
        found = await self._run(request, self._search_worker, self._searches.indexes)
        counts = {"default": found["default"], "indexes": len(found["indexes"])}
        return ResultResponse({"xmodal": __version__, **counts, "local": self._is_local(request)})

    async def updates(self, request: Request) -> Response:
        """Whether an index is watched, and the state of its updates."""
        return ResultResponse({"watching": self._watcher is not None, "watch": self._watcher and self._watcher.state})

    async def openapi(self, request: Request) -> Response:
        """The description of the API."""
        return ResultResponse(openapi_document())

    async def docs(self, request: Request) -> Response:
        """The description of the API as a page; its examples have the address of this server."""
        text = api_page(openapi_document(), str(request.base_url), bool(self.settings.token))
        return HTMLResponse(text, headers=NO_CACHE)

    async def indexes(self, request: Request) -> Response:
        """The indexes of this machine."""
        return ResultResponse(await self._run(request, self._search_worker, self._searches.indexes))

    async def search(self, request: Request) -> Response:
        """``GET /api/search?q=two+dogs``."""
        call = partial(self._searches.search, read_request(request.query_params))
        return ResultResponse(await self._run(request, self._search_worker, call))

    async def search_photos(self, request: Request) -> Response:
        """``POST /api/search`` with photos in the body, and the parameters of ``search``."""
        parsed = read_request(request.query_params)
        async with uploaded_photos(request, self.settings) as photos:
            found = await self._run(request, self._search_worker, partial(self._searches.search, parsed, photos))
            return ResultResponse({**found, "warnings": [without_folder(text, photos) for text in found["warnings"]]})

    async def similar(self, request: Request) -> Response:
        """``GET /api/similar?id=12``: photos like an indexed one."""
        parsed = replace(read_request(request.query_params), line="", like=(_key(request),), unlike=())
        return ResultResponse(await self._run(request, self._search_worker, partial(self._searches.search, parsed)))

    async def embed(self, request: Request) -> Response:
        """``GET /api/embed?q=two+dogs&q=snow``: the vectors of sentences."""
        sentences = read_sentences(request.query_params)
        index = request.query_params.get("index") or None
        call = partial(self._searches.embed, index, sentences)
        return ResultResponse(await self._run(request, self._search_worker, call))

    async def embed_photos(self, request: Request) -> Response:
        """``POST /api/embed``: the vectors of photos in the body."""
        index = request.query_params.get("index") or None
        async with uploaded_photos(request, self.settings) as photos:
            call = partial(self._searches.embed, index, photos)
            return ResultResponse(await self._run(request, self._search_worker, call))

    async def caption(self, request: Request) -> Response:
        """``GET /api/caption?id=12&model=starter-captioner``: captions of an indexed photo."""
        entry = await self._entry(request, _key(request))
        call = partial(self._captions.caption, existing_file(entry.item), request.query_params.get("model") or None)
        return ResultResponse(await self._run(request, self._caption_worker, call))

    async def captioners(self, request: Request) -> Response:
        """The captioners of this machine."""
        return ResultResponse(await self._run(request, self._caption_worker, self._captions.captioners))

    async def photo(self, request: Request) -> Response:
        """The facts of a photo."""
        key, index = request.path_params["key"], request.query_params.get("index") or None
        entry = await self._entry(request, key)
        caption = await self._run(request, self._search_worker, partial(self._searches.caption, index, key))
        item = entry.item
        facts = {"id": key, "path": item.path, "bytes": item.size}
        facts |= {"width": item.width, "height": item.height, "taken": item.taken, "caption": caption}
        facts |= to_json(await self._run(request, self._view_worker, partial(read_camera_facts, Path(item.path))))
        return ResultResponse(facts)

    async def view(self, request: Request) -> Response:
        """A thumbnail or a large view, WebP."""
        kind = request.path_params["kind"]
        if kind not in HEIGHTS:
            raise MissingData(f"a photo has no {kind[:40]!r}", f"known: {', '.join((*HEIGHTS, 'file'))}")
        entry = await self._entry(request, request.path_params["key"])
        content = await self._run(request, self._view_worker, partial(self._views.view, entry.item, kind))
        versioned = request.query_params.get("v") == entry.item.digest.hex()[:12]
        return Response(content, 200, FOREVER if versioned else NO_CACHE, "image/webp")

    async def file(self, request: Request) -> Response:
        """The file of a photo, as a download."""
        entry = await self._entry(request, request.path_params["key"])
        path = existing_file(entry.item)
        name = path.name.encode(errors="replace").decode()
        return FileResponse(path, media_type="application/octet-stream", filename=name)

    async def archive(self, request: Request) -> Response:
        """``GET /api/archive?id=12&id=15``: the files of photos as a zip; those that do not exist are left out."""
        index, keys = request.query_params.get("index") or None, read_keys(request.query_params)
        entries = await self._run(request, self._search_worker, partial(self._searches.entries, index, keys))
        return self._archives.response(await self._run(request, self._view_worker, partial(existing_files, entries)))

    async def show(self, request: Request) -> Response:
        """``POST /api/photos/12/show`` opens the folder of a photo in the file manager, for users of this machine."""
        if not self._is_local(request):
            return problem(403, "photos are shown in the file manager of this machine only", "download the file")
        entry = await self._entry(request, request.path_params["key"])
        await self._run(request, self._view_worker, partial(show_in_folder, existing_file(entry.item)))
        return Response(status_code=204)

    def _is_local(self, request: Request) -> bool:
        """Whether the server listens on this machine only, and the client is on it."""
        return self.settings.is_local and request.client is not None and request.client.host in LOCAL_HOSTS

    async def _entry(self, request: Request, key: int) -> IndexedItem:
        index = request.query_params.get("index") or None
        return await self._run(request, self._search_worker, partial(self._searches.entry, index, key))

    async def _run(self, request: Request, worker: Worker, call: Callable[[], Result]) -> Result:
        return await while_connected(request, worker.run(call))

    def start(self) -> None:
        """Watch the index, if that is requested."""
        if self._watcher is not None:
            self._watcher.start()

    async def close(self) -> None:
        """Close the indexes; calls that wait are canceled, and an update ends."""
        if self._watcher is not None:
            await to_thread(self._watcher.close)
        await self._search_worker.run(self._searches.close)
        for worker in (self._search_worker, self._caption_worker, self._view_worker):
            worker.close()


def _new_watcher(settings: ServeSettings) -> Watcher:
    folder = registry.find_index(settings.index)
    return Watcher(folder, index_updater(folder, settings.runtime))


def _key(request: Request) -> int:
    key = request.query_params.get("id", "")
    if not (key.isascii() and key.isdigit() and len(key) < 18):
        raise ConfigError("the parameter id is missing or not a number", "for example: id=12")
    return int(key)

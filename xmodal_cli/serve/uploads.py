"""Photos in the body of a request, as files in a temporary folder: image bytes, or a form with files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from xmodal_cli.errors import BadData, XmodalError
from xmodal_cli.retrieval.query import Term
from xmodal_cli.serve.problems import TooLarge
from xmodal_cli.serve.settings import ServeSettings

_CHUNK = 2**20


@asynccontextmanager
async def uploaded_photos(request: Request, settings: ServeSettings) -> AsyncIterator[list[Term]]:
    """The photos of a request as terms with weight 1; the files are deleted at the end.

    Raises BadData without photos, TooLarge.
    """
    limit = settings.max_upload * settings.max_photos
    if int(request.headers.get("content-length") or 0) > limit:
        raise _too_large(limit)
    with tempfile.TemporaryDirectory(prefix="xmodal-") as folder:
        if request.headers.get("content-type", "").startswith("multipart/"):
            paths = await _save_form(request, Path(folder), settings)
        else:
            paths = await _save_body(request, Path(folder), settings)
        if not paths:
            raise BadData("the request has no photo", "send image bytes, or a form with files")
        try:
            yield [Term(path.name, 1.0, path) for path in paths]
        except XmodalError as error:  # the path is of no use to the client
            error.message = without_folder(error.message, [Term("", 1.0, Path(folder, "photo"))])
            raise


def without_folder(text: str, photos: Sequence[Term]) -> str:
    """A message without the temporary folder of the uploaded photos."""
    folders = {f"{photo.image.parent}{os.sep}" for photo in photos if photo.image is not None}
    for folder in folders:
        text = text.replace(folder, "the uploaded ")
    return text


async def _save_body(request: Request, folder: Path, settings: ServeSettings) -> list[Path]:
    file, size = folder / "photo", 0
    with open(file, "wb") as out:
        async for chunk in request.stream():
            size += len(chunk)
            if size > settings.max_upload:
                raise _too_large(settings.max_upload)
            out.write(chunk)
    return [file] if size else []


async def _save_form(request: Request, folder: Path, settings: ServeSettings) -> list[Path]:
    paths: list[Path] = []
    try:
        async with request.form(max_files=settings.max_photos, max_fields=8) as form:
            for value in form.getlist("photo"):
                if isinstance(value, UploadFile):
                    paths.append(folder / f"photo{len(paths)}")
                    await _copy(value, paths[-1], settings.max_upload)
    except MultiPartException as error:
        raise BadData(f"the form cannot be read: {error.message}", "send the files in the field photo") from error
    return paths


async def _copy(upload: UploadFile, file: Path, limit: int) -> None:
    size = 0
    with open(file, "wb") as out:
        while chunk := await upload.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            out.write(chunk)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the upload has more than {limit // 2**20} MB", "send a smaller photo")

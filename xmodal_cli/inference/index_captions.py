"""Captions for the photos of an index, which searches then find by ``caption:WORDS``."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from xmodal_cli import interrupts
from xmodal_cli.data.images import ImageReader
from xmodal_cli.inference.caption_checks import check_request
from xmodal_cli.inference.caption_types import CaptionRequest, override_decoding
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.inference.image_captioning import load_generator
from xmodal_cli.inference.models import describe_model
from xmodal_cli.inference.reranking import check_reranker
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.result_json import OPTIONAL
from xmodal_cli.retrieval.index import open_index
from xmodal_cli.retrieval.item_captions import CaptionWriter, NewCaption, PhotoToCaption
from xmodal_cli.types import Unreadable

COMMIT_SECONDS = 10.0  # an interrupted run loses the captions of at most this time


@dataclass
class CaptionedIndex:
    """``photos`` of the index have a caption by ``model``, ``captioned`` of them since now.

    ``left_out`` are the photos without a caption. Copies of a photo count.
    """

    index: str
    model: str
    photos: int
    captioned: int = 0
    left_out: list[Unreadable] = field(default_factory=list, metadata=OPTIONAL)


def caption_index(folder: Path, request: CaptionRequest, reporter: Reporter = SILENT) -> CaptionedIndex:
    """Write captions of all photos of the index in ``folder`` that have none by this model with these settings.

    A run that was interrupted is continued. Raises the errors of ``check_request``, and MissingData, BadData and
    StorageError for the index.
    """
    open_index(folder).close()  # upgrades an index of an older format
    check_request(request)
    names = request.models or (default_model("captioner"),)
    writer = CaptionWriter(folder, reporter)
    pending, num_photos = writer.prepare(_identity(names, request))
    result = CaptionedIndex(folder.name, " + ".join(names), num_photos)
    if pending:
        _caption(pending, request, writer, result, reporter)
    return result


def _identity(names: tuple[str, ...], request: CaptionRequest) -> str:
    models = [name if name.startswith("hf/") else describe_model(name).fingerprint for name in names]
    parts: list[object] = [models, request.settings, request.tags]
    if not names[0].startswith("hf/"):
        matcher = check_reranker(override_decoding(describe_model(names[0]).config.decoding, request.settings))
        parts += [] if matcher is None else [matcher.fingerprint]
    return json.dumps(parts)


def _caption(
    pending: list[PhotoToCaption],
    request: CaptionRequest,
    writer: CaptionWriter,
    result: CaptionedIndex,
    reporter: Reporter,
) -> None:
    reporter.info(f"loading {result.model}")
    generator = load_generator(request, ImageReader())
    for text in generator.warnings:
        reporter.warn(text)
    batch: list[NewCaption] = []
    committed = time.monotonic()
    start = result.photos - len(pending)

    def hint() -> str:
        return interrupts.hint_of(start + result.captioned, result.photos, "photos", "have captions")

    with reporter.task("captioning", len(pending), "photos") as task, interrupts.resumable(hint):
        captions = generator.captions([photo.path for photo in pending])
        for photo, (path, found) in zip(pending, captions, strict=True):
            if isinstance(found, Unreadable):
                result.left_out.append(Unreadable(path, found.reason, found.category))
            else:
                batch.append(NewCaption(photo.digest, found[0].text, tuple(found[0].tags)))
            task.advance()
            if time.monotonic() - committed > COMMIT_SECONDS:
                result.captioned += writer.write(batch)
                batch, committed = [], time.monotonic()
    result.captioned += writer.write(batch)

"""``xmodal caption``: captions for photos, by captioners, a Hugging Face model, or from the nearest training images.

Photos are processed in batches. Unreadable photos are reported and skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.data.caption_sidecars import Sidecars
from xmodal_cli.data.images import ImageReader
from xmodal_cli.data.photo_files import Photo
from xmodal_cli.errors import BadData, Category
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.inference.loaded_models import ImageCaptions, ScoredCaption
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    from xmodal_cli.inference.caption_types import Caption, CaptionGenerator
    from xmodal_cli.reports.attention_page import AttentionPage


_HINT = "supported formats include .jpg, .png, .webp and .tif"


def check_request(request: CaptionRequest) -> None:
    """Raise the errors of ``caption`` that are known without the photos: models, settings and the folder of maps."""
    if request.attention is not None:
        from xmodal_cli.reports.attention_page import check_folder

        check_folder(request.attention, request.force)
    if request.nearest:
        from xmodal_cli.inference.nearest import check_nearest

        check_nearest(request)
    else:
        from xmodal_cli.inference.caption_checks import check_request as check_captioners

        check_captioners(request)


def caption(
    photos: Sequence[Photo],
    request: CaptionRequest,
    reporter: Reporter = SILENT,
    on_result: Callable[[ImageCaptions], None] | None = None,
) -> list[ImageCaptions]:
    """Caption ``photos`` (from ``photo_files.find_photos``), in their order; ``on_result`` is called for each one.

    No model is loaded if no photo exists. Raises, before any computation, MissingData, UnknownName and BadModel for
    models, ConfigError for settings, and StorageError for paths that cannot be written.
    """
    results = list[ImageCaptions]()
    paths = [photo.path for photo in photos if photo.problem is None]
    sidecars = Sidecars(paths, request.force) if request.write else None
    if paths:
        check_request(request)  # before a model is loaded
    reader = ImageReader()
    generator = _load_generator(request, len(paths), reporter, reader) if paths else None
    page = _create_attention_page(request, generator)
    captions = generator.captions(paths) if generator else iter(())
    try:
        with reporter.task("captioning", len(photos), "photos") as task:
            for photo in photos:
                results.append(_failed(photo) if photo.problem else _save(*next(captions), sidecars, page, reader))
                if on_result is not None:
                    on_result(results[-1])
                task.advance()
    finally:  # after an interrupt the page has the photos captioned so far
        if page is not None:
            page.finish()
    return results


def raise_if_all_failed(results: Sequence[ImageCaptions]) -> None:
    """Raise BadData if no photo could be captioned."""
    errors = [photo.error for photo in results if photo.error is not None]
    if not results or len(errors) < len(results):
        return
    message = errors[0] if len(errors) == 1 else f"none of the {len(errors)} photos could be captioned"
    raise BadData(message, results[0].hint or _HINT)


def _failed(photo: Photo) -> ImageCaptions:
    assert photo.problem is not None
    category = getattr(photo.problem, "category", Category.MISSING).value
    return ImageCaptions(str(photo.path), error=photo.problem.message, hint=photo.problem.hint, category=category)


def left_out_of(results: Sequence[ImageCaptions]) -> list[Unreadable]:
    """The photos without captions."""
    return [Unreadable(Path(r.path), r.error, Category(r.category or "damaged")) for r in results if r.error]


def _load_generator(
    request: CaptionRequest, num_photos: int, reporter: Reporter, reader: ImageReader
) -> CaptionGenerator:
    from xmodal_cli.inference import image_captioning
    from xmodal_cli.inference.defaults import default_model

    names = request.models or (default_model("matcher" if request.nearest else "captioner"),)
    reporter.info(f"loading {' + '.join(names)}")
    if request.nearest:
        from xmodal_cli.inference.nearest import nearest_generator

        generator: CaptionGenerator = nearest_generator(request, reader, num_photos, reporter)
    else:
        generator = image_captioning.load_generator(request, reader, num_photos, reporter)
    for text in generator.warnings:
        reporter.warn(text)
    reporter.info(f"captions by {generator.name}")
    return generator


def _create_attention_page(request: CaptionRequest, generator: CaptionGenerator | None) -> AttentionPage | None:
    if request.attention is None or generator is None:
        return None
    from xmodal_cli.reports.attention_page import AttentionPage

    return AttentionPage(request.attention, generator.name, generator.views, request.force)


def _save(
    path: Path,
    result: list[Caption] | Unreadable,
    sidecars: Sidecars | None,
    page: AttentionPage | None,
    reader: ImageReader,
) -> ImageCaptions:
    """Write the caption file and attention maps of a photo; returns its captions or error. Raises StorageError."""
    if isinstance(result, Unreadable):
        message = result.reason if str(path) in result.reason else f"{path}: {result.reason}"
        return ImageCaptions(str(path), error=message, hint=result.hint or _HINT, category=result.category.value)
    captions = tuple(ScoredCaption(c.text, c.score) for c in result)  # without the attention maps
    defects = tuple(dict.fromkeys(defect.reason for defect in reader.defects if defect.path == path))
    notes = [sidecars.write(path, [c.text for c in captions])] if sidecars else []
    notes += [page.add(path, result[0])] if page else []
    notes = [*(f"{path}: {defect}" for defect in defects), *(note for note in notes if note)]
    return ImageCaptions(str(path), captions, tuple(result[0].tags), notes=tuple(notes), defects=defects)

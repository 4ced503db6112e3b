"""``xmodal caption``: captions for photos, from captioners, a Hugging Face model, or the nearest training images.

Photos go through in batches as they are decoded; one that cannot be read costs its own line and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.data.caption_sidecars import Sidecars
from xmodal_cli.data.photo_files import Photo
from xmodal_cli.errors import BadData, XmodalError
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    from xmodal_cli.inference.caption_types import Caption, CaptionGenerator
    from xmodal_cli.reports.attention_page import AttentionPage


_HINT = "give pictures that an image viewer can show: .jpg, .png, .webp, .tif"


@dataclass(frozen=True)
class CaptionedPhoto:
    """A photo's captions, best first, or the ``problem`` for which it has none.

    A higher score is better; scores of one model can be compared. ``notes`` say what else could not be done, such as
    a sidecar that was there already.
    """

    path: Path
    captions: tuple[Caption, ...] = ()
    problem: XmodalError | None = None
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        if self.problem is not None:
            return {"path": str(self.path), "error": self.problem.message}
        return {"path": str(self.path), "captions": [{"text": c.text, "score": c.score} for c in self.captions]}


def caption(
    photos: Sequence[Photo],
    request: CaptionRequest,
    reporter: Reporter = SILENT,
    each: Callable[[CaptionedPhoto], None] | None = None,
) -> list[CaptionedPhoto]:
    """Caption ``photos`` (of ``photo_files.find_photos``), in their order; ``each`` is called as they are done.

    Nothing is loaded where no photo is there. Raises, before anything is computed, MissingData, UnknownName, BadModel
    for models, ConfigError for settings, StorageError for places that cannot be written to.
    """
    results = list[CaptionedPhoto]()
    there = [photo.path for photo in photos if photo.problem is None]
    sidecars = Sidecars(there, request.force) if request.write else None
    generator = _speaker(request, reporter) if there else None
    page = _attention_page(request, generator)
    answers = generator.captions(there) if generator else iter(())
    try:
        with reporter.task("captioning", len(photos), "photos") as task:
            for photo in photos:
                done = CaptionedPhoto(photo.path, (), photo.problem)
                results.append(done if photo.problem else _keep(*next(answers), sidecars, page))
                if each is not None:
                    each(results[-1])
                task.advance()
    finally:  # an interrupted job leaves a page of what it did
        if page is not None:
            page.finish()
    return results


def raise_if_all_failed(results: Sequence[CaptionedPhoto]) -> None:
    """Raise what went wrong where not one photo could be captioned."""
    problems = [done.problem for done in results if done.problem is not None]
    if not results or len(problems) < len(results):
        return
    if len(problems) == 1:
        raise problems[0]
    raise BadData(f"none of the {len(problems)} pictures could be captioned", problems[0].hint or _HINT)


def _speaker(request: CaptionRequest, reporter: Reporter) -> CaptionGenerator:
    from xmodal_cli.inference import image_captioning

    if request.nearest:
        from xmodal_cli.inference.nearest import nearest_generator

        generator: CaptionGenerator = nearest_generator(request, reporter)
    else:
        generator = image_captioning.load_generator(request)
    reporter.info(f"captions by {generator.name}")
    return generator


def _attention_page(request: CaptionRequest, generator: CaptionGenerator | None) -> AttentionPage | None:
    if request.attention is None or generator is None:
        return None
    from xmodal_cli.reports.attention_page import AttentionPage

    return AttentionPage(request.attention, generator.name, generator.views, request.force)


def _keep(
    path: Path, answer: list[Caption] | Unreadable, sidecars: Sidecars | None, page: AttentionPage | None
) -> CaptionedPhoto:
    """A photo's answer as a result, its sidecar and its maps written. Raises StorageError."""
    if isinstance(answer, Unreadable):
        message = answer.reason if str(path) in answer.reason else f"{path}: {answer.reason}"
        return CaptionedPhoto(path, problem=BadData(message, _HINT))
    captions = tuple(replace(found, attention=None) for found in answer)  # maps of all photos would fill the memory
    notes = [sidecars.write(path, [c.text for c in captions])] if sidecars else []
    notes += [page.add(path, answer[0])] if page else []
    return CaptionedPhoto(path, captions, notes=tuple(note for note in notes if note))

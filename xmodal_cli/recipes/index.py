"""``xmodal index``: build or update an index. torch is imported only if photos have to be embedded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.device import Compute
from xmodal_cli.inference import image_encoders, text_encoders
from xmodal_cli.inference.exported_matcher import ExportedMatcher, open_matcher
from xmodal_cli.inference.index_models import (
    describe_matcher,
    find_index_model,
    sentence_encoder,
    stored_matcher,
    to_index_model,
)
from xmodal_cli.inference.unchecked_features import report_unchecked
from xmodal_cli.output_files import check_writable
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.calibration import calibrate_index
from xmodal_cli.retrieval.index import check_fingerprint, is_index
from xmodal_cli.retrieval.metadata import RECALL, STORES, check_recall, check_store
from xmodal_cli.retrieval.report import IndexReport, make_report
from xmodal_cli.retrieval.stored_metadata import read_metadata
from xmodal_cli.retrieval.target import find_target
from xmodal_cli.retrieval.update import IndexRequest, update_index
from xmodal_cli.types import Defect, ImageVectors

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher


@dataclass(frozen=True)
class Selection:
    """The photos of an index: patterns to ``exclude``, and whether photos of absent folders are removed."""

    exclude: tuple[str, ...] = ()
    remove_missing: bool = False


@dataclass(frozen=True)
class Storage:
    """The recall of searches in a large index, and the precision of its vectors (``fp16``, ``fp32``).

    None keeps what the index has.
    """

    recall: float | None = None
    store: str | None = None


@dataclass(frozen=True)
class IndexJob:
    """What to build or update, as the arguments of ``index``.

    With ``few_photos``, they are embedded as a few are: by onnxruntime, if the settings and the model allow it.
    """

    roots: Sequence[Path] = ()
    name: str | None = None
    model: str | None = None
    storage: Storage = Storage()
    rebuild: bool = False
    selection: Selection = Selection()
    few_photos: bool = False


def index(
    roots: Sequence[Path] = (),
    name: str | None = None,
    model: str | None = None,
    storage: Storage = Storage(),
    rebuild: bool = False,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
    selection: Selection = Selection(),
) -> IndexReport:
    """Build or update the index of the photos in ``roots``.

    ``roots`` defaults to the folders of the index, ``name`` to the index that covers ``roots``, or had them at another
    path, or a new one, ``model`` to the model of the index or the default matcher. Raises the errors of
    ``update_index``, and UnknownName or MissingData for a model or an index that does not exist; errors of
    options are raised before folders are listed.
    """
    job = IndexJob(roots, name, model, storage, rebuild, selection)
    return _run(job, compute, reporter, registry.set_default)


def update(folder: Path, compute: Compute = Compute(), reporter: Reporter = SILENT) -> IndexReport:
    """Update the index in ``folder`` in the background of a process: the default index stays the same.

    torch, which would stay in memory, is not imported for many new photos either, unless ``compute`` requests it or
    the model needs it. Raises the errors of ``index``.
    """
    return _run(IndexJob(name=str(folder), few_photos=True), compute, reporter, lambda _: None)


def _run(job: IndexJob, compute: Compute, reporter: Reporter, on_commit: Callable[[Path], None]) -> IndexReport:
    """``on_commit`` is called with the folder of the index after its photos were committed."""
    _check_early(job.name, job.model, job.storage, compute)
    target = find_target(job.roots, job.name, job.selection.exclude)
    folder, photos = target.folder, target.photos
    info = find_index_model(folder, job.model, job.rebuild)
    card = read_metadata(folder).model if info is None else to_index_model(info)
    loaded: LoadedMatcher | ExportedMatcher | None = None
    defects: list[Defect] = []

    def embed() -> ImageVectors:
        nonlocal loaded, defects
        from xmodal_cli.data.images import ImageReader
        from xmodal_cli.inference import encoding

        reader = ImageReader()
        defects = reader.defects
        made_by = info or stored_matcher(card, folder)
        check_fingerprint(card, made_by.fingerprint, folder)
        num_new = len(photos.files) - (0 if job.rebuild or not is_index(folder) else read_metadata(folder).num_items)
        loaded = open_matcher(made_by, compute, 0 if job.few_photos else num_new, reporter)
        reporter.info(f"embedding photos with {card.name} ({loaded.compute.description})")
        report_unchecked([made_by], reporter)
        if compute.engine == "ray":
            return encoding.image_vectors_on_ray(loaded, compute, reader)
        return encoding.image_vectors(loaded, reader)

    request = IndexRequest(
        photos,
        card,
        job.storage.recall,
        job.rebuild,
        job.selection.remove_missing,
        target.exclude,
        job.storage.store,
    )
    changes = update_index(folder, request, embed, reporter)
    on_commit(folder)
    if info is not None:
        with_torch = None if isinstance(loaded, ExportedMatcher) else loaded
        image_encoders.ensure(info, reporter, with_torch)
        text_encoders.ensure(info, reporter, with_torch)
    calibrate_index(folder, sentence_encoder(card, info), reporter)
    return make_report(folder, changes, photos, defects)


def _check_early(name: str | None, model: str | None, storage: Storage, compute: Compute) -> None:
    """Raise the errors of the options, before folders are listed."""
    compute.check()
    check_recall(RECALL if storage.recall is None else storage.recall)
    check_store(storage.store or STORES[0])
    if model is not None:
        describe_matcher(model)
    if name is not None:
        folder = registry.resolve_folder(name)
        registry.check_target(folder)
        check_writable(folder)

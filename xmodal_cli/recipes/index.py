"""``xmodal index``: build or update an index. torch is imported only if photos have to be embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.data import left_out
from xmodal_cli.data.scan import scan
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, DownloadError, MissingData
from xmodal_cli.inference import matchers, models, text_encoders
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.index import IndexModel, check_fingerprint, is_index, read_metadata
from xmodal_cli.retrieval.update import IndexChanges, IndexRequest, update_index
from xmodal_cli.types import ImageVectors, Unreadable

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher
    from xmodal_cli.inference.models import ModelInfo


@dataclass(frozen=True)
class ReadProblem:
    """A file or folder that could not be read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class IndexReport:
    """An index after an update, with the numbers of photos added, updated and so on; ``asdict`` is the JSON.

    ``computed`` photos were embedded; ``heic_passed_over`` were skipped because pillow-heif is not installed.
    ``left_out`` are all files without a vector, by category (``data/left_out.py``).
    """

    index: str
    folder: str
    model: str
    similarity: str
    kind: str
    roots: list[str]
    items: int
    added: int
    updated: int
    moved: int
    removed: int
    unchanged: int
    computed: int
    unreadable: list[ReadProblem]
    left_out: dict[str, Any]
    heic_passed_over: int
    unread_folders: list[ReadProblem]


def index(
    roots: Sequence[Path] = (),
    name: str | None = None,
    model: str | None = None,
    kind: str | None = None,
    rebuild: bool = False,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
) -> IndexReport:
    """Build or update the index of the photos in ``roots``.

    ``roots`` defaults to the folders of the index, ``name`` to the index that covers ``roots`` or a new one, ``model``
    to the model of the index or the default matcher. Raises the errors of ``update_index``, and UnknownName or
    MissingData for a model or an index that does not exist.
    """
    folder, scanned_roots = _find_target(roots, name)
    photos = scan(scanned_roots)
    info = _find_model(folder, model, rebuild)
    card = read_metadata(folder).model if info is None else to_index_model(info)
    loaded: LoadedMatcher | None = None

    def embed() -> ImageVectors:
        nonlocal loaded
        from xmodal_cli.inference.encoding import image_vectors

        reporter.info(f"embedding photos with {card.name}")
        loaded = matchers.load_matcher(info or card.source, compute)
        check_fingerprint(card, loaded.info.fingerprint, folder)
        return image_vectors(loaded)

    changes = update_index(folder, IndexRequest(photos, card, kind, rebuild), embed, reporter)
    registry.set_default(folder)
    if info is not None:
        text_encoders.ensure(info, reporter, loaded)
    return _report(folder, changes)


def _find_target(roots: Sequence[Path], name: str | None) -> tuple[Path, tuple[Path, ...]]:
    """The folder of the index, and the files and folders to scan."""
    if roots:
        return (registry.resolve_folder(name) if name else registry.choose_folder(roots)), tuple(roots)
    if name is None:
        raise ConfigError(
            "no photos to index were given", "give a folder, xmodal index PATH, or an index to update, --index INDEX"
        )
    folder = registry.find_index(name)
    return folder, tuple(Path(root) for root in read_metadata(folder).roots)


def _find_model(folder: Path, model: str | None, rebuild: bool) -> ModelInfo | None:
    """The matcher ``model``, else that of the index, else the default one; None if the index's model does not exist.

    Without its model an index can still be updated if no photo has to be embedded. Otherwise loading the model raises
    the error.
    """
    if model is None and not rebuild and is_index(folder):
        try:
            return _describe(read_metadata(folder).model.source)
        except (MissingData, DownloadError):
            return None
    return _describe(default_model("matcher") if model is None else model)


def _describe(what: str) -> ModelInfo:
    return models.describe_as("matcher", what, "an index needs a matcher; see `xmodal models list`")


def to_index_model(info: ModelInfo) -> IndexModel:
    """The metadata that an index stores about its matcher."""
    return IndexModel(info.name, info.source, info.fingerprint, info.similarity, info.embed_dim, info.meta)


def _report(folder: Path, changes: IndexChanges) -> IndexReport:
    card = changes.metadata
    return IndexReport(
        index=folder.name,
        folder=str(folder),
        model=card.model.name,
        similarity=card.model.similarity,
        kind=card.kind,
        roots=list(card.roots),
        items=card.num_items,
        added=changes.added,
        updated=changes.updated,
        moved=changes.moved,
        removed=changes.removed,
        unchanged=changes.unchanged,
        computed=changes.num_computed,
        unreadable=[ReadProblem(u.path, u.reason) for u in changes.unreadable],
        left_out=left_out.to_json(_left_out(changes)),
        heic_passed_over=changes.num_heic,
        unread_folders=[ReadProblem(path, reason) for path, reason in changes.unreadable_folders.items()],
    )


def _left_out(changes: IndexChanges) -> list[Unreadable]:
    unread = (Unreadable(Path(u.path), u.reason, u.category, u.mtime_ns == -1) for u in changes.unreadable)
    return [*changes.left_out, *unread]

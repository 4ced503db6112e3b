"""``xmodal index``: make an index match its folders. No torch unless a picture has to be embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal_cli.data.scan import scan
from xmodal_cli.device import Compute
from xmodal_cli.errors import ConfigError, DownloadError, MissingData
from xmodal_cli.inference import matchers, models, text_encoders
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.index import IndexModel, check_fingerprint, is_index, read_metadata
from xmodal_cli.retrieval.update import IndexChanges, IndexRequest, update_index
from xmodal_cli.types import ImageVectors

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
    """An index after an update, and how many photos were added, updated and so on; ``asdict`` is the JSON.

    ``computed`` photos were embedded; ``heic_passed_over`` were left out because pillow-heif is not installed.
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
    """Add, update, move and remove until the index matches ``roots``.

    Without ``roots`` those of the index are looked through again; without ``name`` it is the index that covers
    them, or a new one. ``model`` is the index's own where none is given, else the default one. Raises what
    ``update_index`` raises, and UnknownName, MissingData for a model or an index that is not there.
    """
    folder, places = _target(roots, name)
    seen = scan(places)
    info = _find_model(folder, model, rebuild)
    card = read_metadata(folder).model if info is None else to_index_model(info)
    loaded: LoadedMatcher | None = None

    def embed() -> ImageVectors:
        nonlocal loaded
        from xmodal_cli.inference.encoding import image_vectors

        reporter.info(f"embedding pictures with {card.name}")
        loaded = matchers.load_matcher(info or card.source, compute)
        check_fingerprint(card, loaded.info.fingerprint, folder)
        return image_vectors(loaded)

    changes = update_index(folder, IndexRequest(seen, card, kind, rebuild), embed, reporter)
    registry.set_default(folder)
    if info is not None:
        text_encoders.ensure(info, reporter, loaded)
    return _report(folder, changes)


def _target(roots: Sequence[Path], name: str | None) -> tuple[Path, tuple[Path, ...]]:
    """The index's folder, and the places to look through."""
    if roots:
        return (registry.resolve_folder(name) if name else registry.choose_folder(roots)), tuple(roots)
    if name is None:
        raise ConfigError(
            "there is nothing to index", "give a folder of photos: xmodal index PATH; or an index to go through again"
        )
    folder = registry.find_index(name)
    return folder, tuple(Path(root) for root in read_metadata(folder).roots)


def _find_model(folder: Path, asked: str | None, rebuild: bool) -> ModelInfo | None:
    """The matcher asked for, else the index's own, else the default; None where the index's own is not there.

    Without its model an index can still be updated if nothing has to be computed; if something has, loading the model
    says what is missing.
    """
    if asked is None and not rebuild and is_index(folder):
        try:
            return _describe(read_metadata(folder).model.source)
        except (MissingData, DownloadError):
            return None
    return _describe(default_model("matcher") if asked is None else asked)


def _describe(what: str) -> ModelInfo:
    return models.describe_as("matcher", what, "an index needs a matcher; see xmodal models list")


def to_index_model(info: ModelInfo) -> IndexModel:
    """What an index keeps of the matcher that made its vectors."""
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
        heic_passed_over=changes.num_heic,
        unread_folders=[ReadProblem(path, reason) for path, reason in changes.unreadable_folders.items()],
    )

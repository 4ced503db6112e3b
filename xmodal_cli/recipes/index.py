"""``xmodal index``: make an index match its folders. No torch unless a picture has to be embedded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal_cli.data.scan import scan
from xmodal_cli.errors import BadModel, ConfigError, DownloadError, MissingData
from xmodal_cli.inference import matchers, models, text_encoders
from xmodal_cli.inference.defaults import default_model
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.index import IndexModel, check_version, is_index, read_metadata
from xmodal_cli.retrieval.update import IndexChanges, IndexRequest, update_index
from xmodal_cli.types import ImageVectors, Reporter, SilentReporter

if TYPE_CHECKING:
    from xmodal_cli.inference.matchers import LoadedMatcher


@dataclass(frozen=True)
class Computing:
    """Where and in which number format pictures are embedded."""

    device: str = "auto"
    precision: str = "auto"


def index(
    roots: Sequence[Path] = (),
    name: str | None = None,
    model: str | None = None,
    kind: str | None = None,
    rebuild: bool = False,
    computing: Computing | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Add, update, move and remove until the index matches ``roots``; returns what ``--json`` prints.

    Without ``roots`` those of the index are looked through again; without ``name`` it is the index that covers
    them, or a new one. ``model`` is the index's own where none is given, else the default one. Raises what
    ``update_index`` raises, and UnknownName, MissingData for a model or an index that is not there.
    """
    computing, reporter = computing or Computing(), reporter or SilentReporter()
    folder, places = _target(roots, name)
    seen = scan(places)
    card = index_model(folder, model, rebuild)
    loaded: LoadedMatcher | None = None

    def embed() -> ImageVectors:
        nonlocal loaded
        from xmodal_cli.inference.encoding import image_vectors

        reporter.info(f"embedding pictures with {card.name}")
        loaded = matchers.load_matcher(card.source, computing.device, computing.precision)
        check_version(card, loaded.fingerprint, folder)
        return image_vectors(loaded)

    changes = update_index(folder, IndexRequest(seen, card, kind, rebuild), embed, reporter)
    registry.remember(folder)
    text_encoders.ensure(card, reporter, loaded)
    return _report(folder, changes)


def _target(roots: Sequence[Path], name: str | None) -> tuple[Path, tuple[Path, ...]]:
    """The index's folder, and the places to look through."""
    if roots:
        return (registry.folder_of(name) if name else registry.choose(roots)), tuple(roots)
    if name is None:
        raise ConfigError(
            "there is nothing to index", "give a folder of photos: xmodal index PATH; or an index to go through again"
        )
    folder = registry.existing(name)
    return folder, tuple(Path(root) for root in read_metadata(folder).roots)


def index_model(folder: Path, asked: str | None, rebuild: bool) -> IndexModel:
    """The model that speaks: the one asked for, else the index's own, else the default."""
    own = None if rebuild or not is_index(folder) else read_metadata(folder).model
    if asked is None and own is not None:
        try:
            return _described(own.source)
        except (MissingData, DownloadError):
            return own  # nothing may have to be computed; if so, loading it says what is missing
    return _described(default_model("matcher") if asked is None else asked)


def _described(what: str) -> IndexModel:
    found = models.describe_model(what)
    if found.kind != "matcher":
        raise BadModel(f"{what} is a {found.kind}, not a matcher", "an index needs a matcher; see xmodal models list")
    return IndexModel(found.name, found.source, found.fingerprint, found.similarity, found.embed_dim, found.meta)


def _report(folder: Path, changes: IndexChanges) -> dict[str, Any]:
    card = changes.card
    return {
        "index": folder.name,
        "folder": str(folder),
        "model": card.model.name,
        "similarity": card.model.similarity,
        "kind": card.kind,
        "roots": list(card.roots),
        "items": card.num_items,
        "added": changes.added,
        "updated": changes.updated,
        "moved": changes.moved,
        "removed": changes.removed,
        "unchanged": changes.unchanged,
        "computed": changes.num_computed,
        "unreadable": [{"path": u.path, "reason": u.reason} for u in changes.unreadable],
        "heic_passed_over": changes.num_heic,
        "unread_folders": [{"path": path, "reason": reason} for path, reason in changes.blind.items()],
    }

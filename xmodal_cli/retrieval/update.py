"""Makes an index match its folders, computing only what nobody knows yet, and swaps the result in as one unit.

Knows no model: it is given the model's card, and a function that gives the ``types.ImageVectors`` to compute
with when something must really be computed. A killed update leaves the old index, and a journal of the
vectors it computed, which the next one takes up.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from xmodal_cli import atomic_folder
from xmodal_cli.data.image_names import is_heic_name
from xmodal_cli.data.images import HEIC_HINT, can_open_heic
from xmodal_cli.data.scan import FoundFile, Scan, path_key
from xmodal_cli.errors import BadData, IncompatibleFeatures, XmodalError
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.paths import storage_errors
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.retrieval import registry
from xmodal_cli.retrieval.index import (
    CARD,
    ITEMS,
    VECTORS,
    Index,
    IndexMetadata,
    IndexModel,
    is_index,
    open_index,
    read_metadata,
)
from xmodal_cli.retrieval.items import Item, UnreadableFile, write_items
from xmodal_cli.retrieval.journal import Journal, journal_path
from xmodal_cli.retrieval.plan import Placed, UpdatePlan, make_plan
from xmodal_cli.retrieval.resolve import Resolver, VectorSources
from xmodal_cli.retrieval.vectors import add_quantized, check_kind, write_vectors
from xmodal_cli.types import ImageVectors


@dataclass(frozen=True)
class IndexRequest:
    """What an index should hold: the pictures ``seen``, as vectors of ``model``.

    Without ``kind`` it keeps the one it has, at first ``flat``.
    """

    seen: Scan
    model: IndexModel
    kind: str | None = None
    rebuild: bool = False  # forget the old index; vectors in the journal are still good


@dataclass(frozen=True)
class IndexChanges:
    """What an update did, in pictures; ``num_computed`` vectors were new. ``blind`` folders could not be read."""

    card: IndexMetadata
    added: int
    updated: int
    moved: int
    removed: int
    unchanged: int
    num_computed: int
    unreadable: tuple[UnreadableFile, ...]
    blind: dict[str, str]
    num_heic: int = 0  # new HEIC photos that were passed over, since pillow-heif is not installed


def update_index(
    folder: Path, request: IndexRequest, embed: Callable[[], ImageVectors], reporter: Reporter = SILENT
) -> IndexChanges:
    """Make the index in ``folder`` match ``request``.

    Raises BadData if no picture can be read, IncompatibleFeatures if the index was made by another model,
    StorageError when it cannot be written, or is being written by another process.
    """
    check_kind(request.kind or "flat")
    registry.check_target(folder)
    with atomic_folder.only_writer(folder):
        atomic_folder.recover(folder)
        with contextlib.ExitStack() as stack:
            old = _old_index(folder, request)
            if old is not None:
                stack.enter_context(old)
            model = request.model
            journal = stack.enter_context(Journal(journal_path(folder), model.fingerprint, model.embed_dim))
            update = _Update(folder, request, old)
            changes = update.run(VectorSources(old, journal), embed, reporter)
            journal.remove()
            return changes


class _Update:
    """One run of ``update_index``, after everything that can be refused at once was."""

    def __init__(self, folder: Path, request: IndexRequest, old: Index | None) -> None:
        self.folder, self.request, self.old, self.seen = folder, request, old, request.seen
        self.before = _known_card(folder) if old is None else old.card
        self.kind = request.kind or (self.before.kind if self.before else "flat")

    def run(self, sources: VectorSources, embed: Callable[[], ImageVectors], reporter: Reporter) -> IndexChanges:
        roots = self.seen.roots
        items, refused = (self.old.items.all_items(), self.old.items.unreadable()) if self.old else ((), [])
        plan = make_plan(items, refused, self.seen, roots)
        resolver = Resolver(sources, self.request.model, embed)
        look = _can_be_opened(plan.look)
        num_heic = len(plan.look) - len(look)
        new = resolver.resolve(look, reporter)
        unreadable = sorted([*plan.refused, *resolver.refused], key=lambda u: path_key(u.path))
        placed = sorted([*plan.kept, *new], key=lambda p: path_key(p[0].path))
        if not placed:
            raise _only_heic(roots, num_heic) if num_heic else _nothing_readable(roots, unreadable)
        card = self._card(roots, len(placed), len(unreadable))
        if self._differs(card, plan, unreadable, refused):
            self._write(card, placed, unreadable, sources)
        elif self.old is not None:
            card = self.old.card
        counts = _count(plan, [item for item, _ in new])
        return IndexChanges(
            card=card,
            **counts,
            num_computed=resolver.num_computed,
            unreadable=tuple(unreadable),
            blind=self.seen.unreadable_folders,
            num_heic=num_heic,
        )

    def _card(self, roots: Sequence[str], num_items: int, num_unreadable: int) -> IndexMetadata:
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        return IndexMetadata(
            build=uuid.uuid4().hex,
            model=self.request.model,
            kind=self.kind,
            roots=_outermost([*(self.old.card.roots if self.old else ()), *roots]),
            num_items=num_items,
            num_unreadable=num_unreadable,
            created=self.old.card.created if self.old else now,
            updated=now,
        )

    def _differs(
        self, card: IndexMetadata, plan: UpdatePlan, unreadable: list[UnreadableFile], before: list[UnreadableFile]
    ) -> bool:
        if self.old is None or plan.left or unreadable != before:
            return True
        known = self.old.card
        return (card.num_items, card.kind, card.roots) != (known.num_items, known.kind, known.roots)

    def _write(
        self, card: IndexMetadata, placed: list[Placed], unreadable: list[UnreadableFile], sources: VectorSources
    ) -> None:
        numbers = np.array([number for _, number in placed], np.int64)
        shape = (card.num_items, card.model.embed_dim)
        with storage_errors(self.folder), atomic_folder.draft_path(self.folder) as draft:
            if self.old and card.kind == self.old.card.kind and np.array_equal(numbers, np.arange(len(self.old))):
                _link(self.folder / VECTORS, draft / VECTORS)
            else:
                write_vectors(draft / VECTORS, card.kind, shape, lambda rows: sources.take(numbers[rows]))
            if card.kind == "flat" and array_similarity(card.model.similarity).inner_product:
                add_quantized(draft / VECTORS, shape)
            write_items(draft / ITEMS, (item for item, _ in placed), unreadable)
            (draft / CARD).write_text(card.to_json(), encoding="utf-8")
            atomic_folder.replace_folder(draft, self.folder)


def _old_index(folder: Path, request: IndexRequest) -> Index | None:
    """The index to start from. Raises IncompatibleFeatures if it holds another model's vectors."""
    if request.rebuild or not is_index(folder):
        return None
    made_by, model = read_metadata(folder).model, request.model
    if made_by.fingerprint != model.fingerprint:
        raise IncompatibleFeatures(
            f"the index {folder.name!r} was made by the model {made_by.name} ({made_by.fingerprint[:8]}), "
            f"not by {model.name} ({model.fingerprint[:8]})",
            "--rebuild makes it anew with this model; --index NAME makes another one beside it",
        )
    return open_index(folder)


def _known_card(folder: Path) -> IndexMetadata | None:
    """The card of an index that is to be made anew, if it can still be read."""
    try:
        return read_metadata(folder)
    except XmodalError:
        return None


def _count(plan: UpdatePlan, new: Sequence[Item]) -> dict[str, int]:
    """A picture that left one path and appeared at another was moved; one whose bytes are the same is unchanged."""
    here = {item.path for item in new}
    gone = Counter(item.digest for path, item in plan.left.items() if path not in here)
    counts = {"added": 0, "updated": 0, "moved": 0, "removed": gone.total(), "unchanged": len(plan.kept)}
    for item in new:
        if (before := plan.left.get(item.path)) is not None:
            counts["unchanged" if before.digest == item.digest else "updated"] += 1
        elif gone[item.digest] > 0:
            gone[item.digest] -= 1
            counts["moved"] += 1
            counts["removed"] -= 1
        else:
            counts["added"] += 1
    return counts


def _can_be_opened(files: list[FoundFile]) -> list[FoundFile]:
    """Without the HEIC photos where there is no pillow-heif; it is looked for only if there are some."""
    others = [file for file in files if not is_heic_name(file.path)]
    return files if len(others) == len(files) or can_open_heic() else others


def _outermost(roots: Sequence[str]) -> tuple[str, ...]:
    """The roots that lie inside no other, in order, each once."""
    known = dict.fromkeys(roots)
    return tuple(r for r in known if not any(str(parent) in known for parent in Path(r).parents))


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the disk knows no links. Neither is ever changed again."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _only_heic(roots: Sequence[str], num_heic: int) -> BadData:
    return BadData(f"the pictures in {', '.join(roots)} are {num_heic} HEIC photos, which need pillow-heif", HEIC_HINT)


def _nothing_readable(roots: Sequence[str], unreadable: Sequence[UnreadableFile]) -> BadData:
    first = f"; the first, {unreadable[0].path}: {unreadable[0].reason}" if unreadable else ""
    return BadData(
        f"none of the {len(unreadable)} pictures in {', '.join(roots)} can be read{first}",
        "open one in an image viewer; if it does not show there either, the files are damaged",
    )

"""Write a new version of an index and replace the old one by it, in one step."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xmodal_cli import atomic_folder
from xmodal_cli.models.array_similarity import array_similarity
from xmodal_cli.paths import storage_errors
from xmodal_cli.retrieval.index import ITEMS, METADATA, VECTORS, Index, IndexMetadata
from xmodal_cli.retrieval.items import UnreadableFile, write_items
from xmodal_cli.retrieval.plan import IndexedItem
from xmodal_cli.retrieval.vectors import TakeRows, add_quantized, write_vectors


@dataclass(frozen=True)
class Content:
    """The photos of an index by path, with the rows of their vectors in ``take``, and the files without vectors."""

    indexed: Sequence[IndexedItem]
    unreadable: Sequence[UnreadableFile]
    take: TakeRows


def write_version(folder: Path, old: Index | None, metadata: IndexMetadata, content: Content) -> None:
    """Replace the index in ``folder``, which is ``old``. The caller has its lock. Raises StorageError."""
    rows = np.array([row for _, row in content.indexed], np.int64)
    shape = (metadata.num_items, metadata.model.embed_dim)
    with storage_errors(folder), atomic_folder.draft_path(folder) as draft:
        if old and metadata.kind == old.metadata.kind and np.array_equal(rows, np.arange(len(old))):
            _link(folder / VECTORS, draft / VECTORS)
        else:
            write_vectors(draft / VECTORS, metadata.kind, shape, lambda positions: content.take(rows[positions]))
        if metadata.kind == "flat" and array_similarity(metadata.model.similarity).inner_product:
            add_quantized(draft / VECTORS, shape)
        write_items(draft / ITEMS, (item for item, _ in content.indexed), content.unreadable, metadata.decoding)
        (draft / METADATA).write_text(metadata.to_json(), encoding="utf-8")
        atomic_folder.replace_folder(draft, folder)


def _link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the file system does not support links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

"""Writes an index of many photos at once, without reading them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xmodal_cli.data.decoding import DECODING
from xmodal_cli.data.scan import FoundFile
from xmodal_cli.retrieval.cell_training import MIN_VECTORS, sample_and_train, store_cells
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.items import Item
from xmodal_cli.retrieval.metadata import IndexMetadata, IndexModel
from xmodal_cli.retrieval.writer import IndexWriter

DATE = "2026-01-01T00:00:00.000000+00:00"


def write_large_index(
    folder: Path, root: Path, files: Sequence[FoundFile], vectors: np.ndarray, model: IndexModel, store: str = "fp16"
) -> None:
    """One segment with ``vectors`` (files, dim), sorted by cell if it is large; the digest of file ``i`` is ``i``."""
    metadata = IndexMetadata("", model, (str(root),), 0, 0, DATE, DATE, store=store)
    with IndexWriter(folder, folder / ITEMS, metadata) as writer:
        if len(files) >= MIN_VECTORS:
            store_cells(writer, sample_and_train(len(files), vectors.__getitem__))
        new = writer.write_vectors(len(files), vectors.__getitem__)
        with writer.transaction() as change:
            change.add_segment(new.segment)
            for i, (file, position) in enumerate(zip(files, new.positions.tolist(), strict=True)):
                item = Item(file.path, file.size, file.mtime_ns, i.to_bytes(16, "big"), DECODING, 1, 1)
                change.put(item, (new.segment.id, position))

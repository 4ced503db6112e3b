"""``xmodal features``: extract the image features of a dataset once per split into the feature cache.

torch is imported only if there are images to extract.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.data import left_out
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadData
from xmodal_cli.features.cache import cache_folder, ensure_store
from xmodal_cli.features.output_folder import check_output_folder
from xmodal_cli.features.store import Skipped
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.types import ImageTextDataset


@dataclass(frozen=True)
class FeaturesReport:
    """Features of a dataset; ``asdict`` is the JSON. ``shape`` is per image; ``extracted`` counts new images.

    ``left_out`` and ``defects`` are made by ``data/left_out.py``.
    """

    data: str
    backbone: str
    fingerprint: str
    kind: str
    crops: int
    shape: list[int]
    images: int
    extracted: int
    seconds: float
    folders: list[str]
    skipped: list[Skipped]
    left_out: dict[str, Any]
    defects: dict[str, Any]


def extract_features(
    dataset: ImageTextDataset,
    settings: FeaturesConfig,
    out: Path | None = None,
    compute: Compute = Compute(),
    reporter: Reporter = SILENT,
    batch_size: int | None = None,
) -> FeaturesReport:
    """Extract the features of a dataset, per split into the cache, or all into the folder ``out``.

    Raises BadData for a dataset with precomputed features or without images, StorageError if ``out`` cannot be written
    or has other files or features.
    """
    if dataset.has_features:
        raise BadData(f"{dataset.name} has precomputed features", "train and eval read them directly")
    compute.check()
    if out is not None:
        check_output_folder(out, dataset, settings)
    started = time.perf_counter()
    parts = [dataset] if out else [dataset.select(split) for split in dataset.splits]
    completed = [
        ensure_store(p, out or cache_folder(p, settings), settings, compute, reporter, batch_size) for p in parts
    ]
    seconds = time.perf_counter() - started
    stores, extracted = [store for store, _ in completed], sum(count for _, count in completed)
    if not stores:
        raise BadData(f"{dataset.name} has no images", f"its splits: {xmodal_command('data', 'info', dataset.source)}")
    meta = stores[0].meta
    skipped = [entry for store in stores for entry in store.summary.skipped]
    return FeaturesReport(
        data=dataset.name,
        backbone=meta.backbone,
        fingerprint=meta.fingerprint,
        kind=meta.kind,
        crops=meta.crops,
        shape=list(stores[0].shards[0].shape[1:]),
        images=sum(len(store.ids) for store in stores),
        extracted=extracted,
        seconds=round(seconds, 3),
        folders=[str(store.folder) for store in stores],
        skipped=skipped,
        left_out=left_out.to_json([entry.to_record() for entry in skipped]),
        defects=left_out.defects_to_json([defect for store in stores for defect in store.summary.defect_records()]),
    )

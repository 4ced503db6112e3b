"""Drop the images of a dataset that cannot be read, with a warning."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.types import ImageTextDataset


def readable_images(dataset: ImageTextDataset, reporter: Reporter = SILENT) -> ImageTextDataset:
    """The dataset without the images whose files cannot be decoded, which are counted and named. Raises BadData.

    For training that opens pictures as it goes: an hour later is too late to hear of the first bad file.
    """
    total = len(dataset.examples)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool, reporter.task("looking", total, "pictures") as task:
        reasons: list[str] = []
        for reason in pool.map(_reason, (example.path for example in dataset.examples)):
            reasons.append(reason)
            task.advance(1)
    bad = [reason for reason in reasons if reason]
    if len(bad) == total:
        example = f", for example: {bad[0]}" if bad else ""
        raise BadData(f"no image of {dataset.name} could be read{example}", "see `xmodal data info` for the reasons")
    if bad:
        reporter.warn(f"{len(bad)} of {total} pictures could not be read and are left out ({bad[0]})")
    kept = tuple(e for e, reason in zip(dataset.examples, reasons, strict=True) if not reason)
    return replace(dataset, examples=kept)


def _reason(path: Path | None) -> str:
    """Why the picture cannot be read, or ""; a JPEG is decoded at its smallest scale, which finds what is cut off."""
    if path is None:
        return "it has features and no picture"
    try:
        open_image(path, max_side=1)
    except BadData as error:
        return error.message
    return ""

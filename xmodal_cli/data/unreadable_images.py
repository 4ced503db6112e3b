"""Drops the images of a dataset that cannot be decoded, with a warning."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.types import ImageTextDataset


def drop_unreadable_images(dataset: ImageTextDataset, reporter: Reporter = SILENT) -> ImageTextDataset:
    """The dataset without the images that cannot be decoded; a warning has their number. Raises BadData if all fail.

    Training that decodes images in each epoch calls it first, so that a bad file cannot stop the run later.
    """
    total = len(dataset.examples)
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool, reporter.task("checking", total, "images") as task:
        reasons: list[str] = []
        for reason in pool.map(_error_message, (example.path for example in dataset.examples)):
            reasons.append(reason)
            task.advance(1)
    bad = [reason for reason in reasons if reason]
    if len(bad) == total:
        example = f", for example: {bad[0]}" if bad else ""
        hint = f"see `{xmodal_command('data', 'info', dataset.source)}` for the reasons"
        raise BadData(f"no image of {dataset.name} could be read{example}", hint)
    if bad:
        reporter.warn(f"{len(bad)} of {total} images cannot be read and are skipped ({bad[0]})")
    readable = tuple(e for e, reason in zip(dataset.examples, reasons, strict=True) if not reason)
    return replace(dataset, examples=readable)


def _error_message(path: Path | None) -> str:
    """Why the image cannot be read, or ""; a JPEG is decoded at its smallest scale, which detects truncated files."""
    if path is None:
        return "it has precomputed features and no image file"
    try:
        open_image(path, max_side=1)
    except BadData as error:
        return error.message
    return ""

"""Drops the images of a dataset that cannot be decoded, with a warning."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from xmodal_cli.data.image_checks import ImageChecks
from xmodal_cli.data.images import open_image
from xmodal_cli.errors import BadData
from xmodal_cli.reporter import SILENT, Reporter
from xmodal_cli.shell_commands import xmodal_command
from xmodal_cli.types import ImageTextDataset


def drop_unreadable_images(dataset: ImageTextDataset, reporter: Reporter = SILENT) -> ImageTextDataset:
    """The dataset without the images that cannot be decoded; a warning has their number. Raises BadData if all fail.

    Training that decodes images in each epoch calls it first, so that a bad file cannot stop the run later. Files that
    have not changed are decoded for it once.
    """
    images, total = [example.path for example in dataset.examples], len(dataset.examples)
    checks = ImageChecks(images)
    reasons = checks.load()
    if reasons is None:
        reasons = _check(images, checks, reporter)
    first = next(iter(reasons.values()), "")
    if len(reasons) == total:
        example = f", for example: {first}" if first else ""
        hint = f"see `{xmodal_command('data', 'info', dataset.source)}` for the reasons"
        raise BadData(f"no image of {dataset.name} could be read{example}", hint)
    if not reasons:
        return dataset
    reporter.warn(f"{len(reasons)} of {total} images cannot be read and are skipped ({first})")
    return replace(dataset, examples=tuple(e for n, e in enumerate(dataset.examples) if n not in reasons))


def _check(images: Sequence[Path | None], checks: ImageChecks, reporter: Reporter) -> dict[int, str]:
    """Decode all images; position -> why it cannot be read. Reasons that may change are not written to the cache."""
    reasons: dict[int, str] = {}
    may_change = False
    with (
        ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool,
        reporter.task("checking", len(images), "images") as task,
    ):
        for number, error in enumerate(pool.map(_error_of, images)):
            if error is not None:
                reasons[number] = error.message
                may_change = may_change or getattr(error, "may_change", True)
            task.advance(1)
    if not may_change:
        checks.save(reasons)
    return reasons


def _error_of(path: Path | None) -> BadData | None:
    """Why the image cannot be read; a JPEG is decoded at its smallest scale, which detects truncated files."""
    if path is None:
        return BadData("it has precomputed features and no image file")
    try:
        open_image(path, max_side=1)
    except BadData as error:
        return error
    return None

"""What a dataset format reads."""

from __future__ import annotations

from dataclasses import dataclass

from xmodal_cli.types import Example, SkippedRow


@dataclass(frozen=True)
class DatasetContents:
    """The images of a dataset, the rows that cannot be used, and remarks for ``data info``."""

    examples: tuple[Example, ...]
    skipped_rows: tuple[SkippedRow, ...] = ()
    notes: tuple[str, ...] = ()

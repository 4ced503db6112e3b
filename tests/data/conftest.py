"""A fixture that is parametrized over small datasets of all formats."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.small_datasets import DATASETS


@pytest.fixture(params=DATASETS)
def tiny(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The format of a small dataset, and its folder."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    DATASETS[request.param](folder)
    return request.param.removesuffix("-pipes"), folder

"""Folders that features can be written to."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmodal_cli.config import FeaturesConfig
from xmodal_cli.errors import StorageError
from xmodal_cli.features.output_folder import check_output_folder
from xmodal_cli.file_lock import folder_lock
from xmodal_cli.types import ImageTextDataset

DATASET = ImageTextDataset("d", "folder", Path("d"), ())


def test_a_folder_that_another_process_has_begun_to_write(tmp_path: Path) -> None:
    with folder_lock(tmp_path, "the feature store"):
        (tmp_path / ".shard.1a2b.tmp").mkdir()
        check_output_folder(tmp_path, DATASET, FeaturesConfig())


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(StorageError, match="has other files than features"):
        check_output_folder(tmp_path, DATASET, FeaturesConfig())

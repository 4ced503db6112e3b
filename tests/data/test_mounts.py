"""The list of mount points."""

from __future__ import annotations

from pathlib import Path

import pytest

from xmodal_cli.data import mounts


def test_paths_are_unescaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mountinfo"
    file.write_text("1 2 8:1 / / rw - ext4 a rw\n3 4 0:5 / /media/my\\040disk rw - vfat b rw\n\nbad\n")
    monkeypatch.setattr(mounts, "_MOUNTS", file)
    assert mounts.mount_points() == {"/", "/media/my disk"}


def test_without_the_file_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "missing")
    assert mounts.mount_points() == frozenset()

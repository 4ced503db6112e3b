"""Output files and folders are checked before anything is computed, and the check leaves nothing on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xmodal_cli.errors import StorageError
from xmodal_cli.output_files import check_output_file, check_output_folder, check_writable
from xmodal_cli.paths import make_folder, write_text


@pytest.mark.parametrize("name", ["new.txt", "a/b/new.txt", "old.txt"])
def test_a_file_that_can_be_written_leaves_no_trace(tmp_path, name):
    (tmp_path / "old.txt").write_text("old", encoding="utf-8")
    check_writable(tmp_path / name)
    check_output_folder(tmp_path / "c" / "d")
    assert os.listdir(tmp_path) == ["old.txt"]
    assert (tmp_path / "old.txt").read_text(encoding="utf-8") == "old"


@pytest.mark.parametrize("name", ["file/new.txt", "file/a/new.txt", "n" * 300])
def test_a_file_that_cannot_be_written(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        check_writable(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
@pytest.mark.parametrize("write", [check_writable, check_output_folder, make_folder, lambda p: write_text(p, "text")])
def test_a_file_system_that_creates_no_files(write):
    with pytest.raises(StorageError, match="/proc/xmodal"):
        write(Path("/proc/xmodal"))


def test_a_folder_below_a_file_names_the_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file is not a folder"):
        make_folder(tmp_path / "file" / "a")


def test_only_own_and_empty_files_are_replaced(tmp_path):
    (tmp_path / "own").write_text("own", encoding="utf-8")
    (tmp_path / "empty").touch()
    (tmp_path / "photo").write_text("pixels", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "absent")

    def is_own(file: Path) -> bool:
        return file.name == "own"

    for name in ("own", "empty", "new"):
        check_output_file(tmp_path / name, "--out", is_own)
    for name in ("photo", "link"):
        with pytest.raises(StorageError, match="already exists and is not a file of --out"):
            check_output_file(tmp_path / name, "--out", is_own)
    with pytest.raises(StorageError, match="is a folder"):
        check_output_file(tmp_path, "--out", is_own)

"""Checksums, sizes and modification times of files."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from xmodal_cli.file_identity import is_absent, reason_not_folder, reason_not_regular, sha256_of, size_and_mtime


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(os.urandom(1_000_003))
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "nowhere")


def test_size_and_mtime_change_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"12345")
    os.utime(file, ns=(1, 1_234_567_890_123_456_700))
    assert size_and_mtime(file) == size_and_mtime(str(file)) == (5, file.stat().st_mtime_ns)
    before = size_and_mtime(file)
    os.utime(file, ns=(1, 2_234_567_890_123_456_700))
    assert size_and_mtime(file) != before


def test_a_file_that_does_not_exist_has_neither(tmp_path: Path) -> None:
    assert size_and_mtime(tmp_path / "nowhere") is None
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert size_and_mtime(tmp_path / "link") is None


def test_why_a_path_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").write_text("content")
    (tmp_path / "device").symlink_to(os.devnull)
    assert reason_not_regular(tmp_path / "file") == ""
    assert reason_not_regular(tmp_path) == "is a folder, not a file"
    assert reason_not_regular(tmp_path / "absent") == "does not exist"
    assert reason_not_regular(tmp_path / "link") == "is a link to a file that does not exist"
    assert reason_not_regular(tmp_path / "device") == "is a device, not a file"
    assert reason_not_regular(tmp_path / "loop").startswith("cannot be read: ")
    assert reason_not_folder(tmp_path) == ""
    assert reason_not_folder(tmp_path / "file") == "is not a folder"
    assert reason_not_folder(tmp_path / "absent") == "does not exist"
    assert reason_not_folder(tmp_path / "link") == "is a link to a file that does not exist"
    assert reason_not_folder(tmp_path / "loop").startswith("cannot be read: ")
    absent = {name for name in ("file", "absent", "link", "device", "loop", "a\0b") if is_absent(tmp_path / name)}
    assert absent == {"absent", "link"}

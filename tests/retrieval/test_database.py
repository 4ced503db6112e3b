"""Connections to the database of an index: journals, folders that cannot be written, file systems without locks."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from xmodal_cli.data import mounts
from xmodal_cli.errors import BadData, StorageError
from xmodal_cli.retrieval import database
from xmodal_cli.retrieval.database import ITEMS, connect_reader, connect_writer

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture


def _journal_mode(photo_index: PhotoIndexFixture) -> str:
    with contextlib.closing(connect_reader(photo_index.index_folder / ITEMS)) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


def test_the_journal_depends_on_the_file_system(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(2)
    photo_index.update()
    assert _journal_mode(photo_index) == "wal"
    monkeypatch.setattr(database, "is_on_network", lambda file: True)
    photo_index.fill(3)
    photo_index.update()
    assert _journal_mode(photo_index) == "delete"
    photo_index.check()


def test_network_drives_are_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        f"30 1 8:1 / / rw - ext4 /dev/sda1 rw\n31 30 0:40 / {tmp_path} rw shared:1 - nfs4 nas:/photos rw\n"
        f"32 30 0:41 / {tmp_path}/local rw shared:1 master:2 - btrfs /dev/sdb rw\n"
    )
    (tmp_path / "mountinfo").write_text(lines)
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "mountinfo")
    assert mounts.is_on_network(tmp_path / "a" / "items.sqlite")
    assert not mounts.is_on_network(tmp_path / "local" / "items.sqlite")
    assert not mounts.is_on_network(Path("/items.sqlite"))
    assert mounts.mount_points() == {"/", str(tmp_path), f"{tmp_path}/local"}


def _deny(monkeypatch: pytest.MonkeyPatch, denied: Any) -> list[str]:
    """Opening fails for the ``denied`` options, as in a folder that cannot be written or without locks."""
    connect, used = database._connect, list[str]()

    def limited(file: Path, options: str) -> sqlite3.Connection:
        used.append(options)
        if denied(options):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_LOCK
            raise error
        return connect(file, options)

    monkeypatch.setattr(database, "_connect", limited)
    return used


def test_a_folder_that_cannot_be_written_is_read(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo_index.fill(3)
    photo_index.update()
    used = _deny(monkeypatch, lambda options: "immutable" not in options)
    assert len(photo_index.contents()) == 3
    assert used[-1] == "mode=ro&immutable=1"
    (photo_index.index_folder / f"{ITEMS}-wal").write_bytes(b"a commit")
    with pytest.raises(BadData, match="its last update was interrupted") as error:
        photo_index.open()
    assert "make the folder writable" in error.value.hint


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root can write to all folders")
def test_a_folder_without_write_permission(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(3)
    photo_index.update()
    photo_index.index_folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert len(photo_index.contents()) == 3
    finally:
        photo_index.index_folder.chmod(stat.S_IRWXU)


def test_a_file_system_without_locks(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    photo_index.fill(3)
    used = _deny(monkeypatch, lambda options: "nolock" not in options and "immutable" not in options)
    photo_index.update()
    photo_index.fill(4)
    assert photo_index.update().added == 1
    assert "mode=rw&nolock=1" in used
    photo_index.check()


def test_a_killed_writer_leaves_a_log_that_is_read(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    photo_index.fill(3)
    photo_index.update()
    with contextlib.closing(connect_writer(photo_index.index_folder / ITEMS)) as connection:
        connection.execute("UPDATE items SET width = 7")
        shutil.copytree(photo_index.index_folder, tmp_path / "copy")  # as if the process had been killed now
    assert (tmp_path / "copy" / f"{ITEMS}-wal").stat().st_size > 0
    photo_index.index_folder = tmp_path / "copy"
    with photo_index.open() as index:
        assert [entry.item.width for entry in index.items.all_items()] == [7, 7, 7]


def test_readers_of_a_rollback_journal_are_waited_for(
    photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "is_on_network", lambda file: True)
    monkeypatch.setattr(database, "TIMEOUT", 0.1)
    photo_index.fill(2)
    photo_index.update()
    photo_index.fill(3)
    with photo_index.open(), pytest.raises(StorageError, match="is being read by another process") as error:
        photo_index.update()
    assert "close open searches" in error.value.hint
    assert photo_index.update().added == 1
    photo_index.check()


def test_reading_keeps_the_locks_of_other_connections(photo_index: PhotoIndexFixture) -> None:
    """POSIX releases the locks of a process on a file when any of its descriptors of the file is closed."""
    photo_index.fill(2)
    photo_index.update()
    file = photo_index.index_folder / ITEMS
    with contextlib.closing(connect_writer(file)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        photo_index.open().close()
        other = ["import sqlite3, sys", "sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"]
        import subprocess
        import sys

        done = subprocess.run(
            [sys.executable, "-c", "\n".join(other), file], capture_output=True, text=True, check=False
        )
        assert "database is locked" in done.stderr

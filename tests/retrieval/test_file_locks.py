"""Indexes on file systems without locks or shared memory, which a preloaded library imitates."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from xmodal_cli.errors import BadData
from xmodal_cli.retrieval import database
from xmodal_cli.retrieval.database import ITEMS
from xmodal_cli.retrieval.file_locks import locks_work

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

SOURCE = Path(__file__).parents[1] / "fixtures" / "no_locks.c"
# a first build, an update, a rebuild, and searches after each
SCRIPT = """
import sys
from pathlib import Path
from helpers.index_fixtures import PhotoIndexFixture
index = PhotoIndexFixture(Path(sys.argv[1]))
for num, rebuild in ((3, False), (5, False), (6, True), (6, False), (7, False)):
    index.fill(num)
    index.update(rebuild=rebuild)
    index.check()
print(*sorted(path.name for path in index.index_folder.iterdir()))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler on Linux is needed")
    out = tmp_path_factory.mktemp("library") / "no_locks.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(out), str(SOURCE), "-ldl"], check=True)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["LOCKS", "MAPS", "LOCKS MAPS"])
def test_file_systems_without_locks_or_shared_memory(library: Path, tmp_path: Path, failing: str) -> None:
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "FAIL": failing,
        "FAIL_BELOW": str(tmp_path.resolve()),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    names = {"index.json", ITEMS, "segments"}
    assert names <= set(done.stdout.split()) <= names | {f"{ITEMS}-shm"}


def test_locks_are_tried_without_opening_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locks_work(tmp_path)  # there is nothing to lock
    (tmp_path / "index.json").touch()
    assert locks_work(tmp_path)
    assert locks_work(tmp_path, is_writer=True)
    for number, expected in ((errno.ENOLCK, False), (errno.EOPNOTSUPP, False), (errno.EAGAIN, True)):

        def failing(*args: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "lockf", failing)
        assert locks_work(tmp_path) == expected
        assert locks_work(tmp_path, is_writer=True) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["index.json"]


def test_an_interrupted_update_without_locks(photo_index: PhotoIndexFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update cannot be distinguished from one that was killed, and the database has pages of both commits."""
    monkeypatch.setattr(database, "locks_work", lambda folder, is_writer=False: False)
    photo_index.fill(3)
    photo_index.update()
    (photo_index.index_folder / f"{ITEMS}-journal").write_bytes(b"pages of the last commit")
    with pytest.raises(BadData, match="is being written, or its last update was interrupted") as error:
        photo_index.open()
    assert "xmodal index --index" in error.value.hint

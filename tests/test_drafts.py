"""Drafts are next to their target, and those of killed processes are deleted by the next one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xmodal_cli import drafts
from xmodal_cli.drafts import draft_folder, remove_abandoned
from xmodal_cli.paths import atomic_path, write_text

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows locks no folders")

KILLED = """
import os, signal, sys
from pathlib import Path
from xmodal_cli.paths import atomic_path
with atomic_path(Path(sys.argv[1])) as file:
    file.write_text("half")
    (file.parent / "of a library").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_drafts_of_a_killed_process_are_deleted_by_the_next_draft(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "a.txt"], check=False, env=environment)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.txt.") and len(list(left.iterdir())) == 2
    write_text(tmp_path / "b.txt", "of another file")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_drafts_in_use_are_kept(tmp_path: Path) -> None:
    with draft_folder(tmp_path / "a.txt") as first:
        drafts._cleaned.clear()
        with draft_folder(tmp_path / "a.txt") as second:
            remove_abandoned(tmp_path)
            assert first.exists() and second.exists() and first != second
    assert list(tmp_path.iterdir()) == []


def test_other_files_and_folders_are_kept(tmp_path: Path) -> None:
    names = [".a.tmp", "a.0123abcd.tmp", ".a.0123abcd.tmpx", ".a.0123abcX.tmp"]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / ".file.0123abcd.tmp").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / ".link.0123abcd.tmp").symlink_to(tmp_path / "other")
    (tmp_path / ".gone.0123abcd.tmp").mkdir()
    remove_abandoned(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {*names, "other", ".file.0123abcd.tmp", ".link.0123abcd.tmp"}


def test_the_draft_has_the_name_of_its_target(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "a.txt") as draft:
        assert (draft.name, draft.parent.parent) == ("a.txt", tmp_path)


def test_without_locks_nothing_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "_lock", lambda draft: None)
    (tmp_path / ".gone.0123abcd.tmp").mkdir()
    write_text(tmp_path / "a.txt", "text")
    assert {p.name for p in tmp_path.iterdir()} == {".gone.0123abcd.tmp", "a.txt"}

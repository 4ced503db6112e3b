"""Writing: whole or not at all, and a full or forbidden disk is a sentence."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from xmodal_cli import paths
from xmodal_cli.errors import BadData, StorageError
from xmodal_cli.paths import atomic_path, expand_home, given_path, storage_errors, write_bytes, write_text


def test_the_home_is_the_path_of_the_variable(home):
    assert paths.home() == home
    folders = [paths.data_dir(), paths.runs_dir(), paths.indexes_dir(), paths.models_dir(), paths.cache_dir()]
    assert [f.relative_to(home).as_posix() for f in folders] == ["data", "runs", "indexes", "models", "cache"]


def test_without_the_variable_the_home_is_the_platforms(monkeypatch):
    monkeypatch.delenv("XMODAL_HOME")
    assert paths.home().name == "xmodal"
    monkeypatch.setenv("XMODAL_HOME", "~/mine")
    assert paths.home() == Path.home() / "mine"


def test_a_file_is_written_whole_with_its_folders(tmp_path):
    target = tmp_path / "a" / "b" / "text.txt"
    write_text(target, "grün")
    assert target.read_bytes() == "grün".encode()
    write_bytes(target, b"again")
    assert target.read_bytes() == b"again"
    assert os.listdir(target.parent) == ["text.txt"]


def test_a_failure_leaves_the_old_file_and_no_draft(tmp_path):
    target = tmp_path / "file"
    write_text(target, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as draft:
        draft.write_text("new", encoding="utf-8")
        assert target.read_text(encoding="utf-8") == "old"
        raise ZeroDivisionError
    assert target.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_ctrl_c_leaves_the_old_file_and_no_draft(tmp_path):
    target = tmp_path / "file"
    write_text(target, "old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as draft:
        draft.write_text("new", encoding="utf-8")
        raise KeyboardInterrupt
    assert (target.read_text(encoding="utf-8"), os.listdir(tmp_path)) == ("old", ["file"])


def test_the_draft_is_flushed_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (calls.append("replace"), replace(self, to))[1])
    write_text(tmp_path / "file", "text")
    assert calls == ["fsync", "replace", "fsync"]  # the last one is that of the folder


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_umask_decides_who_may_read_even_where_a_library_decides_otherwise(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_path(tmp_path / "file") as draft:
            private = tmp_path / "private"
            private.touch(mode=0o600)
            private.replace(draft)  # as safetensors does
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("raised", "sentence", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk", "delete files"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "no space left on the disk", "delete files"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "no space left on the disk", "delete files"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be written: Permission denied", "another path"),
        (OSError(errno.ENOTEMPTY, "Directory not empty"), "cannot be written: Directory not empty", "another path"),
        (OSError(errno.EROFS, "Read-only file system"), "cannot be written: Read-only", "another path"),
    ],
)
def test_refusals_of_the_disk_are_sentences_with_a_hint(tmp_path, raised, sentence, hint):
    target = tmp_path / "deep" / "file"
    with pytest.raises(StorageError) as caught, atomic_path(target):
        raise raised
    assert sentence in caught.value.message
    assert str(target) in caught.value.message
    assert hint in caught.value.hint
    assert os.listdir(tmp_path / "deep") == []


@pytest.mark.parametrize(
    "raised", [FileNotFoundError(errno.ENOENT, "gone"), ValueError("odd"), BadData("(os error 28)")]
)
def test_other_errors_stay_what_they_are(tmp_path, raised):
    with pytest.raises(type(raised)) as caught, storage_errors(tmp_path):
        raise raised
    assert caught.value is raised


def test_a_file_where_a_folder_belongs(tmp_path):
    write_text(tmp_path / "file", "text")
    with pytest.raises(StorageError, match="file is not a folder"):
        write_text(tmp_path / "file" / "below", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        write_text(tmp_path / "folder", "text")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


FILLS_THE_DISK = """
import resource, sys, torch
from pathlib import Path
from xmodal_cli.errors import StorageError
from xmodal_cli.models.model_file import ModelHeader, write_model
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
meta = dict(backbone="b", fingerprint="f", kind="global", dim=3)
header = ModelHeader("matcher", {"embed_dim": 4}, "{}", meta, "cosine", {}, {})
try:
    write_model(Path(sys.argv[1]), header, {"weight": torch.zeros(100_000)})
except StorageError as error:
    print(error.message)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="uses Linux resource limits")
def test_a_model_that_does_not_fit_leaves_nothing_behind(tmp_path):
    target = tmp_path / "model.safetensors"
    done = subprocess.run([sys.executable, "-c", FILLS_THE_DISK, target], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{target} cannot be written: File too large"
    assert os.listdir(tmp_path) == []


def test_a_path_from_the_root_keeps_symbolic_links_and_tildes(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    assert paths.absolute_path(Path("link/x/../a.jpg")) == tmp_path / "link" / "a.jpg"
    assert paths.absolute_path(Path("~/a.jpg")) == tmp_path / "~" / "a.jpg"


def test_numbered_names_begin_with_the_name_itself():
    names = paths.numbered_names("photos-2")
    assert [next(names) for _ in range(3)] == ["photos-2", "photos-2-2", "photos-2-3"]


@pytest.mark.parametrize("name", ["~no user", "~nobody-has-this-name/x.jpg", "x~", "."])
def test_a_tilde_of_no_user_is_part_of_the_name(name: str) -> None:
    assert expand_home(name) == given_path(name) == Path(name)


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert expand_home("~/x") == expand_home(Path("~/x")) == given_path("~/x") == tmp_path / "x"
    assert given_path(Path("~/x")) == Path("~/x")


def test_the_home_folder_is_expanded_by_one_function() -> None:
    package = Path(__file__).resolve().parents[1] / "xmodal_cli"
    users = {file.name for file in package.rglob("*.py") if "expanduser(" in file.read_text(encoding="utf-8")}
    assert users == {"paths.py"}


@pytest.mark.parametrize("command", ["index", "eval", "models info", "vectors import", "index . --index"])
def test_a_tilde_of_no_user_is_no_bug(xmodal: Any, command: str) -> None:
    done = xmodal(*command.split(), "~nobody-has-this-name")
    assert done.code in (1, 2)
    assert "bug" not in done.err

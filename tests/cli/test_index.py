"""``xmodal index`` with a toy matcher that embeds color names: what is embedded, reported and refused."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.toy_matcher import ToyMatcher, install, write_photos

from xmodal_cli import paths
from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import Category
from xmodal_cli.inference import encoding
from xmodal_cli.types import Defect

Run = Callable[..., Any]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyMatcher:
    return install(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_photos(tmp_path)


def test_running_index_again_loads_no_model(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    again = xmodal("index", photos, "--json").json
    assert (again["unchanged"], again["computed"], toy.loads) == (6, 0, 1)
    (photos / "red.jpg").unlink()
    assert xmodal("index", "--index", "colors", "--json").json["removed"] == 1  # without PATH: the folders of the index


def test_unreadable_files_are_counted_and_listed(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    (photos / "no.jpg").write_text("bad")
    outcome = xmodal("index", photos)
    assert "left out: 1 file (1 damaged)" in outcome.out
    assert "no.jpg: it is not an image" in outcome.out
    assert "model toy" in outcome.out
    result = xmodal("index", photos, "--json").json
    assert result["unreadable"] == [{"path": str(photos / "no.jpg"), "reason": "it is not an image"}]
    assert (result["left_out"]["total"], result["left_out"]["counts"]) == (1, {"damaged": 1})


def test_damaged_photos_that_are_used_are_listed(
    xmodal: Run, toy: ToyMatcher, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def image_vectors(loaded: ToyMatcher, reader: ImageReader) -> Any:
        reader.defects.append(Defect(photos / "red.jpg", "the file is truncated", Category.DAMAGED))
        return loaded.embed_images

    monkeypatch.setattr(encoding, "image_vectors", image_vectors)
    outcome = xmodal("index", photos)
    assert "used with defects: 1 file (1 damaged)" in outcome.out
    assert "red.jpg: the file is truncated" in outcome.out
    defects = xmodal("index", photos, "--rebuild", "--json").json["defects"]
    assert (defects["total"], defects["counts"], defects["files"][0]["path"]) == (
        1,
        {"damaged": 1},
        str(photos / "red.jpg"),
    )


def test_an_index_of_an_earlier_version_of_decoding(
    xmodal: Run, toy: ToyMatcher, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmodal_cli.retrieval import vector_versions

    num_red = sum("red" in path.name for path in photos.rglob("*.jpg"))
    monkeypatch.setattr(vector_versions, "compare_decoding", lambda path, version: "red" not in path.name)
    path = paths.indexes_dir() / "colors" / "items.sqlite"

    def make_old() -> None:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("DELETE FROM meta WHERE key = 'sha256'")  # older versions have no checksum
            database.execute("UPDATE meta SET value = '\"rgb-1\"' WHERE key = 'decoding'")
            database.execute("UPDATE items SET decoding = 'rgb-1'")

    report = xmodal("index", photos, "--json").json
    reason = "since version srgb-2 of decoding, color profiles are converted to sRGB"
    assert (report["decoding"], report["recomputed"]) == ("srgb-2", {"photos": 0, "reason": None, "not_compared": 0})
    before = xmodal("search", "red", "--json").json["hits"]
    make_old()
    assert xmodal("search", "red", "--json").json["hits"] == before
    assert f"embedded again: {num_red} photos; {reason}" in xmodal("index", photos).out
    make_old()
    report = xmodal("index", photos, "--json").json
    assert report["recomputed"] == {"photos": num_red, "reason": reason, "not_compared": 0}
    assert report["computed"] == num_red
    assert "embedded again" not in xmodal("index", photos).out
    (photos.parent / "white.jpg").write_text("white white")
    xmodal("index", photos, photos.parent / "white.jpg", "--index", "colors")
    make_old()
    outcome = xmodal("index", photos, "--index", "colors")
    assert "not compared: 1 photos; their vectors are of an earlier version of decoding" in outcome.out


def test_changed_and_missing_models(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    xmodal("index", photos)
    toy.fingerprint = "2" * 64  # the run was trained again
    outcome = xmodal("search", "red")
    assert outcome.code == 1
    assert "another version of toy (11111111; " in outcome.err
    assert "--rebuild" in outcome.err
    outcome = xmodal("index", photos)
    assert "not by toy (22222222)" in outcome.err
    assert xmodal("index", photos, "--rebuild").code == 0
    assert xmodal("search", "red").code == 0
    toy.gone = True
    outcome = xmodal("search", "red")
    assert "the model toy of the index 'colors' does not exist at /models/toy.safetensors" in outcome.err
    assert xmodal("index", photos).code == 0  # nothing to compute
    (photos / "new.jpg").write_text("green white")
    assert "no model file" in xmodal("index", photos).err


def test_models_that_are_not_matchers(xmodal: Run, toy: ToyMatcher, photos: Path) -> None:
    toy.kind = "captioner"
    assert "is a captioner, not a matcher" in xmodal("index", photos, "--model", "x").err


@pytest.mark.parametrize(
    ("make", "reason"), [("", "no files at all"), ("a.txt", "only 1 files of other kinds"), (None, "no such file")]
)
def test_folders_without_photos(xmodal: Run, tmp_path: Path, make: str | None, reason: str) -> None:
    folder = tmp_path / "f"
    if make is not None:
        folder.mkdir()
    if make:
        (folder / make).write_text("x")
    outcome = xmodal("index", folder)
    assert outcome.code == 1
    assert reason in outcome.err
    assert "\nhint: " in outcome.err


def test_a_second_run_imports_no_torch(xmodal: Run, toy: ToyMatcher, photos: Path, home: Path) -> None:
    xmodal("index", photos)
    code = (
        "import sys, types; from xmodal_cli.__main__ import main\n"
        "from xmodal_cli.inference import models; from xmodal_cli.errors import MissingData\n"
        "def gone(what): raise MissingData('gone')\n"
        "models.describe_model = gone\n"
        f"assert main(['index', {str(photos)!r}, '--json']) == 0\n"
        f"assert main(['search', {str(photos / 'red.jpg')!r}, '--json']) == 0\n"
        "assert not {'torch', 'transformers', 'open_clip', 'timm'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout[: done.stdout.index("}\n{") + 1])["unchanged"] == 6

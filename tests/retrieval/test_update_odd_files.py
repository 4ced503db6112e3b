"""``update_index`` on folders of real image files of many formats, damaged files and interrupted runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from xmodal_cli.data import images
from xmodal_cli.errors import BadData
from xmodal_cli.shell_commands import install_command
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    from helpers.index_fixtures import PhotoIndexFixture

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


class ColorEmbedder:
    """types.ImageVectors: opens images as the backbones do; a vector has the mean colors of the quarters."""

    def __init__(self) -> None:
        self.num_opened = 0

    def __call__(self, paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        for path in paths:
            self.num_opened += 1
            try:
                square = images.open_image(path, 16).resize((2, 2), Image.Resampling.BOX)
                yield path, np.asarray(square, np.float32).ravel() + 1
            except BadData as error:
                yield path, Unreadable.of(path, error)


@pytest.fixture
def embedder(photo_index: PhotoIndexFixture) -> ColorEmbedder:
    photo_index.embedder = ColorEmbedder()
    return photo_index.embedder


def _names(photo_index: PhotoIndexFixture) -> list[str]:
    return list(photo_index.contents())


def test_images_of_every_format_are_indexed(photo_index: PhotoIndexFixture, embedder: ColorEmbedder) -> None:
    red = Image.new("RGB", (40, 20), (200, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    red.save(photo_index.photos / "turned.JPG", exif=exif)
    red.convert("CMYK").save(photo_index.photos / "print.jpeg")
    Image.fromarray(np.arange(800, dtype=np.uint16).reshape(20, 40) * 60).save(photo_index.photos / "scan.PNG")
    red.save(photo_index.photos / "moving.gif", save_all=True, append_images=[Image.new("RGB", (40, 20), "blue")])
    red.save(photo_index.photos / "new.avif")
    changes = photo_index.update()
    assert changes.unreadable == ()
    assert _names(photo_index) == ["moving.gif", "new.avif", "print.jpeg", "scan.PNG", "turned.JPG"]
    assert photo_index.update().unchanged == 5
    assert embedder.num_opened == 5


def test_damaged_files_are_reported_and_the_others_indexed(
    photo_index: PhotoIndexFixture, embedder: ColorEmbedder
) -> None:
    good = photo_index.photos / "good.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(good)
    photo_index.add("cut.jpg", good.read_bytes()[:1500])
    photo_index.add("empty.jpg", b"")
    photo_index.add("page.jpg", b"<html>404</html>")
    photo_index.add("notes.txt", b"not an image")
    (photo_index.photos / "folder.jpg").mkdir()
    photo_index.add("folder.jpg/inside.jpg", good.read_bytes() + b"\0")
    changes = photo_index.update()
    assert _names(photo_index) == ["folder.jpg/inside.jpg", "good.jpg"]
    reasons = {Path(u.path).name: u.reason for u in changes.unreadable}
    assert sorted(reasons) == ["cut.jpg", "empty.jpg", "page.jpg"]
    assert "0 bytes" in reasons["empty.jpg"] and "it is not a" in reasons["page.jpg"]
    opened = embedder.num_opened
    assert len(photo_index.update().unreadable) == 3
    assert embedder.num_opened == opened


def test_heic_photos_are_skipped_without_pillow_heif(
    photo_index: PhotoIndexFixture, embedder: ColorEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    photo_index.add("a.heic", HEIC)
    photo_index.add("b.HEIC", HEIC + b"\0")
    with pytest.raises(BadData, match="all 2 photos are HEIC files, which need pillow-heif") as error:
        photo_index.update()
    assert install_command("pillow-heif") in error.value.hint
    Image.new("RGB", (8, 8), "red").save(photo_index.photos / "c.jpg")
    for _ in range(2):
        changes = photo_index.update()
        assert (changes.num_heic, changes.metadata.num_items) == (2, 1)
        assert [(u.category, u.mtime_ns) for u in changes.unreadable] == [("heic", -1)] * 2  # tried again
    monkeypatch.undo()
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    for name, color in (("a.heic", "green"), ("b.HEIC", "blue")):
        Image.new("RGB", (64, 64), color).save(photo_index.photos / name, format="HEIF")
    changes = photo_index.update()
    assert (changes.num_heic, changes.added, changes.metadata.num_items) == (0, 2, 3)


def test_indexed_heic_photos_are_kept_without_pillow_heif(
    photo_index: PhotoIndexFixture, embedder: ColorEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (64, 64), "green").save(photo_index.photos / "a.heic", format="HEIF")
    photo_index.update()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    changes = photo_index.update()
    assert (changes.unchanged, changes.num_heic) == (1, 0)


_RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore SIGINT
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.index_fixtures import PhotoIndexFixture
from xmodal_cli.data.scan import scan
from xmodal_cli.retrieval.update import IndexRequest, update_index
photo_index = PhotoIndexFixture(Path({scratch!r}))
def embed():
    def vectors(paths):
        for count, path in enumerate(paths, 1):
            yield path, photo_index.embedder.vector(path.read_bytes())
            print("one", flush=True)
            if count == {after}:
                time.sleep(60)  # until SIGINT
    return vectors
update_index(Path({index!r}), IndexRequest(scan([Path({photos!r})]), photo_index.model), embed)
"""


def test_an_interrupted_run_is_resumed(photo_index: PhotoIndexFixture, tmp_path: Path) -> None:
    """SIGINT after 1 photo, then after 12 more: no vector is computed twice, and the index is complete."""
    photo_index.fill(40)
    script = tmp_path / "run.py"
    (tmp_path / "scratch").mkdir()
    num_computed = 0
    for after in (1, 12):
        scratch = tmp_path / "scratch" / str(after)
        scratch.mkdir()
        paths = {"index": str(photo_index.index_folder), "photos": str(photo_index.photos), "scratch": str(scratch)}
        script.write_text(_RUN.format(tests=str(Path(__file__).parents[1]), after=after, **paths))
        process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        num_computed += after
        assert len(photo_index.contents()) == num_computed
    changes = photo_index.update()
    assert changes.num_computed == len(photo_index.embedder.paths) == 40 - num_computed
    photo_index.check()
    assert sorted(p.name for p in photo_index.index_folder.parent.iterdir()) == ["family"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root can read all files")
def test_files_without_read_permission_are_reported_and_tried_again(photo_index: PhotoIndexFixture) -> None:
    photo_index.fill(2)
    locked = photo_index.photos / "001.jpg"
    locked.chmod(0)
    changes = photo_index.update()
    assert [(Path(u.path).name, u.reason) for u in changes.unreadable] == [("001.jpg", "Permission denied")]
    locked.chmod(0o644)
    time.sleep(0.01)
    assert photo_index.update().added == 1
    photo_index.check()

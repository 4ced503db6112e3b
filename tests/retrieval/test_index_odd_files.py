"""What lies in people's folders, through the whole of ``xmodal index`` but for the network."""

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
from xmodal_cli.retrieval import update
from xmodal_cli.retrieval.journal import Journal, journal_path
from xmodal_cli.types import Unreadable

if TYPE_CHECKING:
    from helpers.index_fixtures import Shelf

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


class Eyes:
    """types.ImageVectors: opens pictures as the backbones do; a vector is the mean colour of some places."""

    def __init__(self) -> None:
        self.num_opened = 0

    def __call__(self, paths: Iterable[Path]) -> Iterator[tuple[Path, np.ndarray | Unreadable]]:
        for path in paths:
            self.num_opened += 1
            try:
                square = images.open_image(path, 16).resize((2, 2), Image.Resampling.BOX)
                yield path, np.asarray(square, np.float32).ravel() + 1
            except BadData as error:
                yield path, Unreadable(path, error.message)


@pytest.fixture
def eyes(shelf: Shelf) -> Eyes:
    shelf.embedder = Eyes()
    return shelf.embedder


def _names(shelf: Shelf) -> list[str]:
    return list(shelf.contents())


def test_pictures_of_every_kind_are_indexed(shelf: Shelf, eyes: Eyes) -> None:
    red = Image.new("RGB", (40, 20), (200, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    red.save(shelf.photos / "turned.JPG", exif=exif)
    red.convert("CMYK").save(shelf.photos / "print.jpeg")
    Image.fromarray(np.arange(800, dtype=np.uint16).reshape(20, 40) * 60).save(shelf.photos / "scan.PNG")
    red.save(shelf.photos / "moving.gif", save_all=True, append_images=[Image.new("RGB", (40, 20), "blue")])
    red.save(shelf.photos / "new.avif")
    changes = shelf.update()
    assert changes.unreadable == ()
    assert _names(shelf) == ["moving.gif", "new.avif", "print.jpeg", "scan.PNG", "turned.JPG"]
    assert shelf.update().unchanged == 5
    assert eyes.num_opened == 5


def test_damaged_files_are_told_and_the_others_indexed(shelf: Shelf, eyes: Eyes) -> None:
    good = shelf.photos / "good.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(good)
    shelf.add("cut.jpg", good.read_bytes()[:1500])
    shelf.add("empty.jpg", b"")
    shelf.add("page.jpg", b"<html>404</html>")
    shelf.add("notes.txt", b"no picture")
    (shelf.photos / "folder.jpg").mkdir()
    shelf.add("folder.jpg/inside.jpg", good.read_bytes() + b"\0")
    changes = shelf.update()
    assert _names(shelf) == ["folder.jpg/inside.jpg", "good.jpg"]
    reasons = {Path(u.path).name: u.reason for u in changes.unreadable}
    assert sorted(reasons) == ["cut.jpg", "empty.jpg", "page.jpg"]
    assert "0 bytes" in reasons["empty.jpg"] and "not a picture" in reasons["page.jpg"]
    opened = eyes.num_opened
    assert len(shelf.update().unreadable) == 3
    assert eyes.num_opened == opened


def test_heic_photos_wait_for_pillow_heif(shelf: Shelf, eyes: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update, "can_open_heic", lambda: False)
    shelf.add("a.heic", HEIC)
    shelf.add("b.HEIC", HEIC + b"\0")
    with pytest.raises(BadData, match="are 2 HEIC photos, which need pillow-heif") as refusal:
        shelf.update()
    assert "pip install pillow-heif" in refusal.value.hint
    Image.new("RGB", (8, 8), "red").save(shelf.photos / "c.jpg")
    for _ in range(2):
        changes = shelf.update()
        assert (changes.num_heic, changes.unreadable, changes.card.num_items) == (2, (), 1)
    heif = pytest.importorskip("pillow_heif")
    monkeypatch.setattr(update, "can_open_heic", images.can_open_heic)
    heif.register_heif_opener()
    for name, colour in (("a.heic", "green"), ("b.HEIC", "blue")):
        Image.new("RGB", (64, 64), colour).save(shelf.photos / name, format="HEIF")
    changes = shelf.update()
    assert (changes.num_heic, changes.added, changes.card.num_items) == (0, 2, 3)


def test_heic_photos_in_an_index_stay_without_pillow_heif(
    shelf: Shelf, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    Image.new("RGB", (64, 64), "green").save(shelf.photos / "a.heic", format="HEIF")
    shelf.update()
    monkeypatch.setattr(update, "can_open_heic", lambda: False)
    changes = shelf.update()
    assert (changes.unchanged, changes.num_heic) == (1, 0)


_RUN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are deaf to it
from pathlib import Path
sys.path.insert(0, {tests!r})
from helpers.index_fixtures import Shelf
from xmodal_cli.data.scan import scan
from xmodal_cli.retrieval.update import IndexRequest, update_index
shelf = Shelf(Path({scratch!r}))
def embed():
    def go(paths):
        for number, path in enumerate(paths, 1):
            yield path, shelf.embedder.vector(path.read_bytes())
            print("one", flush=True)
            if number == {after}:
                time.sleep(60)  # the signal comes now
    return go
update_index(Path({index!r}), IndexRequest(scan([Path({photos!r})]), shelf.model), embed)
"""


def test_interrupted_at_any_time_and_run_again(shelf: Shelf, tmp_path: Path) -> None:
    """SIGINT after 1, then after 12 photos more; nothing that was computed is computed again, and the end is whole."""
    shelf.fill(40)
    script = tmp_path / "run.py"
    (tmp_path / "scratch").mkdir()
    known = 0
    for after in (1, 12):
        scratch = tmp_path / "scratch" / str(after)
        scratch.mkdir()
        places = {"index": str(shelf.index_folder), "photos": str(shelf.photos), "scratch": str(scratch)}
        script.write_text(_RUN.format(tests=str(Path(__file__).parents[1]), after=after, **places))
        process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert not shelf.index_folder.exists()
        with Journal(journal_path(shelf.index_folder), shelf.model.fingerprint, shelf.model.embed_dim) as journal:
            assert len(journal) == known + after
            known = len(journal)
    changes = shelf.update()
    assert changes.num_computed == len(shelf.embedder.seen) == 40 - known
    shelf.check()
    assert sorted(p.name for p in shelf.index_folder.parent.iterdir()) == [".shelf.lock", "shelf"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_files_without_permission_are_told_and_tried_again(shelf: Shelf) -> None:
    shelf.fill(2)
    locked = shelf.photos / "001.jpg"
    locked.chmod(0)
    changes = shelf.update()
    assert [(Path(u.path).name, u.reason) for u in changes.unreadable] == [("001.jpg", "Permission denied")]
    locked.chmod(0o644)
    time.sleep(0.01)
    assert shelf.update().added == 1
    shelf.check()

"""Resuming: nothing is extracted twice, nothing stale is kept, and a kill leaves only whole shards."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from xmodal_cli.errors import BadData
from xmodal_cli.features import filling
from xmodal_cli.features.filling import ExtractionPlan, ImageToExtract, fill_store, find_complete
from xmodal_cli.features.shards import shard_path
from xmodal_cli.features.store import FileStamp
from xmodal_cli.types import FeatureMeta, Unreadable

META = FeatureMeta("colour", "f" * 64, "global", 2)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setitem(filling.SHARD_ROWS, "global", 4)


class Encoder:
    """The number in a file's name and its size; files named bad are unreadable; stops after ``limit`` files."""

    def __init__(self, limit=10**9):
        self.limit, self.seen = limit, []

    def __call__(self, paths):
        for path in paths:
            if len(self.seen) == self.limit:
                raise KeyboardInterrupt
            self.seen.append(path.name)
            number = int(path.stem[-2:])
            bad = path.stem.startswith("bad")
            yield path, Unreadable(path, "it is bad") if bad else np.array([number, path.stat().st_size], float)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    made = [folder / f"{'bad' if n in (2, 9) else 'ok'}{n:02d}.jpg" for n in range(11)]
    for n, file in enumerate(made):
        file.write_bytes(b"x" * (n + 1))
    return made


def plan_of(files, meta=META):
    weights = FileStamp.of(files[0].parent.parent / "weights.pth")
    return ExtractionPlan(tuple(ImageToExtract(f.stem, FileStamp.of(f)) for f in files), meta, weights)


def fill(folder, files, encoder, meta=META):
    done = []
    store = fill_store(folder, plan_of(files, meta), encoder, done.append)
    assert sum(done) == len(files)
    return store


def check(store, files):
    readable = [f for f in files if f.stem.startswith("ok")]
    assert store.ids == tuple(f.stem for f in readable)
    np.testing.assert_array_equal(store.load().values, [[int(f.stem[-2:]), f.stat().st_size] for f in readable])
    assert [s.image_id for s in store.summary.skipped] == [f.stem for f in files if f.stem.startswith("bad")]


def test_a_store_from_nothing_holds_the_readable_pictures_aligned(tmp_path, files):
    store = fill(tmp_path / "s", files, Encoder())
    check(store, files)
    assert store.summary.rows_per_shard == (3, 4, 2)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        *(f"features-0000{n}.safetensors" for n in range(3)),
        "features.json",
    ]


def test_an_interrupted_run_goes_on_with_the_first_missing_shard(tmp_path, files):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "s", files, Encoder(limit=6))
    assert find_complete(tmp_path / "s", plan_of(files).pictures, "colour", "global", 1) is None
    again = Encoder()
    check(fill(tmp_path / "s", files, again), files)
    assert again.seen == [f.name for f in files[4:]]


def test_a_lost_and_a_truncated_shard_are_made_again(tmp_path, files):
    fill(tmp_path / "s", files, Encoder())
    shard_path(tmp_path / "s", 0).unlink()
    cut = shard_path(tmp_path / "s", 2)
    cut.write_bytes(cut.read_bytes()[:-1])
    assert find_complete(tmp_path / "s", plan_of(files).pictures, "colour", "global", 1) is None
    again = Encoder()
    check(fill(tmp_path / "s", files, again), files)
    assert again.seen == [f.name for f in files[:4] + files[8:]]


def test_a_changed_picture_renews_its_shard_only(tmp_path, files):
    fill(tmp_path / "s", files, Encoder())
    files[5].write_bytes(b"y" * 50)
    again = Encoder()
    check(fill(tmp_path / "s", files, again), files)
    assert again.seen == [f.name for f in files[4:8]]


def test_another_backbone_renews_everything(tmp_path, files):
    fill(tmp_path / "s", files, Encoder())
    again = Encoder()
    check(fill(tmp_path / "s", files, again, FeatureMeta("colour", "e" * 64, "global", 2)), files)
    assert len(again.seen) == len(files)


def test_a_smaller_store_leaves_no_old_shards(tmp_path, files):
    fill(tmp_path / "s", files, Encoder())
    check(fill(tmp_path / "s", files[:4], Encoder()), files[:4])
    assert not shard_path(tmp_path / "s", 1).exists()


def test_a_shard_of_unreadable_pictures_alone(tmp_path, files):
    bad = files[0].parent
    for n in range(20, 24):
        (bad / f"bad{n}.jpg").write_bytes(b"")
    mixed = [bad / f"bad{n}.jpg" for n in range(20, 24)] + files
    check(fill(tmp_path / "s", mixed, Encoder()), mixed)


def test_no_readable_picture_is_an_error(tmp_path, files):
    with pytest.raises(BadData, match="none of the 2 pictures"):
        fill_store(tmp_path / "s", plan_of([files[2], files[9]]), Encoder(), lambda n: None)


def test_a_complete_store_is_recognised_by_pictures_backbone_and_weights(tmp_path, files):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"w")
    fill(tmp_path / "s", files, Encoder())
    pictures = plan_of(files).pictures
    assert find_complete(tmp_path / "s", pictures, "colour", "global", 1) is not None
    assert find_complete(tmp_path / "s", pictures[:-1], "colour", "global", 1) is None
    assert find_complete(tmp_path / "s", pictures, "colour", "global", 10) is None
    assert find_complete(tmp_path / "s", pictures, "other", "global", 1) is None
    weights.write_bytes(b"other")
    assert find_complete(tmp_path / "s", pictures, "colour", "global", 1) is None


def test_values_beyond_half_precision_are_clipped(tmp_path, files):
    def huge(paths):
        return ((p, np.array([1e9, -1e9], np.float32)) for p in paths)

    store = fill_store(tmp_path / "s", plan_of(files[:1]), huge, lambda n: None)
    np.testing.assert_array_equal(store.load().values, [[65504, -65504]])


def test_a_kill_leaves_whole_shards_that_the_next_run_keeps(tmp_path, files):
    """A process that really dies of SIGKILL in its second shard."""
    script = f"""
        import os, signal, sys
        from pathlib import Path
        from importlib.util import module_from_spec, spec_from_file_location
        spec = spec_from_file_location("test_filling", {__file__!r})
        t = module_from_spec(spec)
        spec.loader.exec_module(t)
        t.filling.SHARD_ROWS["global"] = 4
        class Killer(t.Encoder):
            def __call__(self, paths):
                for n, item in enumerate(super().__call__(paths)):
                    if n == 6:
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield item
        files = sorted(Path({str(files[0].parent)!r}).iterdir(), key=lambda f: f.stem[-2:])
        t.fill_store(Path({str(tmp_path / "s")!r}), t.plan_of(files), Killer(), lambda n: None)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    again = Encoder()
    check(fill(tmp_path / "s", files, again), files)
    assert again.seen == [f.name for f in files[4:]]

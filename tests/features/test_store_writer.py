"""Resuming an extraction: complete shards are kept, stale ones are replaced, and a kill leaves no partial shard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest

from xmodal_cli.errors import BadData
from xmodal_cli.features import store_writer
from xmodal_cli.features.image_digests import ImageToExtract
from xmodal_cli.features.shards import shard_path
from xmodal_cli.features.store import FileStamp
from xmodal_cli.features.store_writer import ExtractionPlan, fill_store, find_complete_store
from xmodal_cli.types import FeatureMeta, Unreadable

META = FeatureMeta("mean-color", "f" * 64, "global", 2)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setitem(store_writer.SHARD_ROWS, "global", 4)


class Encoder:
    """Features: number in the file name, file size. ``bad`` files are unreadable. Stops after ``limit`` files."""

    def __init__(self, limit=10**9):
        self.limit, self.encoded = limit, []

    def __call__(self, paths):
        for path in paths:
            if len(self.encoded) == self.limit:
                raise KeyboardInterrupt
            self.encoded.append(path.name)
            index = int(path.stem[-2:])
            is_bad = path.stem.startswith("bad")
            yield path, Unreadable(path, "it is bad") if is_bad else np.array([index, path.stat().st_size], float)


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    files = [folder / f"{'bad' if n in (2, 9) else 'ok'}{n:02d}.jpg" for n in range(11)]
    for n, file in enumerate(files):
        file.write_bytes(b"x" * (n + 1))
    return files


def make_plan(files, meta=META):
    weights = FileStamp.of(files[0].parent.parent / "weights.pth")
    return ExtractionPlan(tuple(ImageToExtract(f.stem, FileStamp.of(f)) for f in files), meta, weights)


def fill(folder, files, encoder, meta=META):
    done = []
    store = fill_store(folder, make_plan(files, meta), encoder, done.append)
    assert sum(done) == len(files)
    return store


def assert_complete(store, files):
    readable = [f for f in files if f.stem.startswith("ok")]
    assert store.ids == tuple(f.stem for f in readable)
    np.testing.assert_array_equal(store.load().values, [[int(f.stem[-2:]), f.stat().st_size] for f in readable])
    assert [s.image_id for s in store.summary.skipped] == [f.stem for f in files if f.stem.startswith("bad")]


def test_a_new_store_has_the_readable_images_in_order(tmp_path, files):
    store = fill(tmp_path / "s", files, Encoder())
    assert_complete(store, files)
    assert store.summary.rows_per_shard == (3, 4, 2)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        *(f"features-0000{n}.safetensors" for n in range(3)),
        "features.json",
    ]


def test_an_interrupted_run_resumes_with_the_first_missing_shard(tmp_path, files):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "s", files, Encoder(limit=6))
    assert find_complete_store(tmp_path / "s", make_plan(files).images, "mean-color", "global", 1) is None
    encoder = Encoder()
    assert_complete(fill(tmp_path / "s", files, encoder), files)
    assert encoder.encoded == [f.name for f in files[4:]]


def test_a_missing_and_a_truncated_shard_are_written_again(tmp_path, files):
    fill(tmp_path / "s", files, Encoder())
    shard_path(tmp_path / "s", 0).unlink()
    truncated = shard_path(tmp_path / "s", 2)
    truncated.write_bytes(truncated.read_bytes()[:-1])
    assert find_complete_store(tmp_path / "s", make_plan(files).images, "mean-color", "global", 1) is None
    encoder = Encoder()
    assert_complete(fill(tmp_path / "s", files, encoder), files)
    assert encoder.encoded == [f.name for f in files[:4] + files[8:]]


def test_a_changed_image_replaces_only_its_shard(tmp_path, files):
    fill(tmp_path / "s", files, Encoder())
    files[5].write_bytes(b"y" * 50)
    encoder = Encoder()
    assert_complete(fill(tmp_path / "s", files, encoder), files)
    assert encoder.encoded == [f.name for f in files[4:8]]


def fill_by_content(folder, files, encoder):
    return fill_store(folder, replace(make_plan(files), by_content=True), encoder, lambda n: None)


def test_images_with_other_times_are_not_extracted_again(tmp_path, files):
    fill_by_content(tmp_path / "s", files, Encoder())
    for file in files:
        os.utime(file, (1, 1))
    files[5].write_bytes(b"y" * 50)
    encoder = Encoder()
    assert_complete(fill_by_content(tmp_path / "s", files, encoder), files)
    assert encoder.encoded == [f.name for f in files[4:8]]
    images = make_plan(files).images
    assert find_complete_store(tmp_path / "s", images, "mean-color", "global", 1) is not None


def test_the_paths_of_unreadable_images_are_the_current_ones(tmp_path, files):
    fill_by_content(tmp_path / "s", files, Encoder())
    moved = tmp_path / "moved"
    files[0].parent.rename(moved)
    files = [moved / file.name for file in files]
    store = fill_by_content(tmp_path / "s", files, Encoder(limit=0))
    assert_complete(store, files)
    assert [s.path for s in store.summary.skipped] == [str(files[2]), str(files[9])]


def test_images_of_the_same_names_and_other_bytes_are_extracted(tmp_path, files):
    fill_by_content(tmp_path / "s", files, Encoder())
    for file in files:
        file.write_bytes(b"z" * file.stat().st_size)
        os.utime(file, (1, 1))
    encoder = Encoder()
    fill_by_content(tmp_path / "s", files, encoder)
    assert encoder.encoded == [f.name for f in files]


def test_an_image_that_changes_during_the_extraction_is_extracted_again(tmp_path, files):
    class Slow(Encoder):
        def __call__(self, paths):
            for item in super().__call__(paths):
                if item[0] == files[1]:
                    files[0].write_bytes(b"y" * 50)  # after its features were computed
                yield item

    plan = replace(make_plan(files), by_content=True)
    fill_store(tmp_path / "s", plan, Slow(), lambda n: None)
    encoder = Encoder()
    assert_complete(fill_by_content(tmp_path / "s", files, encoder), files)
    assert encoder.encoded == [f.name for f in files[:4]]


def test_another_backbone_replaces_all_shards(tmp_path, files):
    fill(tmp_path / "s", files, Encoder())
    encoder = Encoder()
    assert_complete(fill(tmp_path / "s", files, encoder, FeatureMeta("mean-color", "e" * 64, "global", 2)), files)
    assert len(encoder.encoded) == len(files)


def test_shards_of_a_larger_store_are_removed(tmp_path, files):
    fill(tmp_path / "s", files, Encoder())
    assert_complete(fill(tmp_path / "s", files[:4], Encoder()), files[:4])
    assert not shard_path(tmp_path / "s", 1).exists()


def test_a_shard_with_only_unreadable_images(tmp_path, files):
    folder = files[0].parent
    for n in range(20, 24):
        (folder / f"bad{n}.jpg").write_bytes(b"")
    mixed = [folder / f"bad{n}.jpg" for n in range(20, 24)] + files
    assert_complete(fill(tmp_path / "s", mixed, Encoder()), mixed)


def test_no_readable_image_is_an_error(tmp_path, files):
    with pytest.raises(BadData, match="none of the 2 images"):
        fill_store(tmp_path / "s", make_plan([files[2], files[9]]), Encoder(), lambda n: None)


def test_a_complete_store_is_identified_by_images_backbone_and_weights(tmp_path, files):
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"w")
    fill(tmp_path / "s", files, Encoder())
    images = make_plan(files).images
    assert find_complete_store(tmp_path / "s", images, "mean-color", "global", 1) is not None
    assert find_complete_store(tmp_path / "s", images[:-1], "mean-color", "global", 1) is None
    assert find_complete_store(tmp_path / "s", images, "mean-color", "global", 10) is None
    assert find_complete_store(tmp_path / "s", images, "other", "global", 1) is None
    assert find_complete_store(tmp_path / "s", images, "mean-color", "global", 1, {"overlap": 0.3}) is None
    weights.write_bytes(b"other")
    assert find_complete_store(tmp_path / "s", images, "mean-color", "global", 1) is None


def test_values_beyond_fp16_are_clipped(tmp_path, files):
    def encode_large(paths):
        return ((p, np.array([1e9, -1e9], np.float32)) for p in paths)

    store = fill_store(tmp_path / "s", make_plan(files[:1]), encode_large, lambda n: None)
    np.testing.assert_array_equal(store.load().values, [[65504, -65504]])


def test_a_killed_process_leaves_complete_shards(tmp_path, files):
    """A process is killed with SIGKILL in its second shard."""
    script = f"""
        import os, signal, sys
        from pathlib import Path
        from importlib.util import module_from_spec, spec_from_file_location
        spec = spec_from_file_location("test_store_writer", {__file__!r})
        t = module_from_spec(spec)
        spec.loader.exec_module(t)
        t.store_writer.SHARD_ROWS["global"] = 4
        class Killer(t.Encoder):
            def __call__(self, paths):
                for n, item in enumerate(super().__call__(paths)):
                    if n == 6:
                        os.kill(os.getpid(), signal.SIGKILL)
                    yield item
        files = sorted(Path({str(files[0].parent)!r}).iterdir(), key=lambda f: f.stem[-2:])
        t.fill_store(Path({str(tmp_path / "s")!r}), t.make_plan(files), Killer(), lambda n: None)
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    encoder = Encoder()
    assert_complete(fill(tmp_path / "s", files, encoder), files)
    assert encoder.encoded == [f.name for f in files[4:]]

"""Images encoded by a Ray cluster: the results of one process, in order, also where workers and nodes end.

The tests with a cluster are among those of faults, because a machine that is busy starts its processes slowly.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ray_workers
from PIL import Image

from xmodal_cli.data.images import ImageReader
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadModel, ConfigError, Unavailable, UnknownName
from xmodal_cli.features import ray_mapping
from xmodal_cli.features.ray_encoding import encode_on_ray
from xmodal_cli.features.shards import map_shard, read_shard_metadata
from xmodal_cli.types import Defect, Unreadable


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """150 images, of which one is truncated, two are unreadable, and some have unusual names."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    names = [f"{number:03d}.png" for number in range(147)] + ["new\nline.png", os.fsdecode(b"\xff.png"), "\u96ea .png"]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).save(folder / name)
    Image.effect_noise((200, 200), 50).convert("RGB").save(folder / "010.png", "JPEG")
    (folder / "010.png").write_bytes((folder / "010.png").read_bytes()[:-2000])
    (folder / "070.png").write_bytes(b"no image")
    (folder / "071.png").unlink()
    return [folder / name for name in names]


def check_equal(images: list[Path], results: list[Any], defects: list[Defect]) -> None:
    reader = ImageReader()
    expected = list(ray_workers.build(reader)(images))
    assert [path for path, _ in results] == images
    for (_, vector), (_, right) in zip(results, expected, strict=True):
        if isinstance(right, Unreadable):
            assert vector == right
        else:
            np.testing.assert_array_equal(vector, right)
    assert defects == reader.defects and len(defects) == 1
    assert sum(isinstance(vector, Unreadable) for _, vector in results) == 2


@pytest.mark.faults
def test_results_are_those_of_one_process(cluster: Any, images: list[Path]) -> None:
    defects: list[Defect] = []
    check_equal(images, list(encode_on_ray(ray_workers.build, iter(images), 8, defects)), defects)


@pytest.mark.faults
def test_no_images_are_no_work(cluster: Any) -> None:
    assert list(encode_on_ray(ray_workers.build, [], 8, [])) == []


@pytest.mark.faults
def test_paths_are_read_as_they_are_needed(
    cluster: Any, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_mapping, "BLOCK", 8)
    read = []

    def paths() -> Iterator[Path]:
        for path in images:
            read.append(path)
            yield path

    next(encode_on_ray(ray_workers.build, paths(), 8, []))
    assert len(read) <= 2 * ray_mapping.AHEAD * 8


@pytest.mark.faults
def test_the_block_of_a_killed_worker_is_repeated(cluster: Any, images: list[Path], tmp_path: Path) -> None:
    defects: list[Defect] = []
    build = partial(ray_workers.build_dying, tmp_path / "killed", "080.png")
    check_equal(images, list(encode_on_ray(build, images, 8, defects)), defects)
    assert (tmp_path / "killed").exists()


@pytest.mark.faults
def test_errors_of_workers(cluster: Any, images: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadModel, match="the weights are damaged") as error:
        list(encode_on_ray(ray_workers.build_missing, images, 8, []))
    assert error.value.hint == "copy them again"
    with pytest.raises(Unavailable, match=r"a worker of Ray has failed: .*by the number of images"):
        list(encode_on_ray(ray_workers.build_faulty, images, 8, []))
    monkeypatch.setattr(ray_mapping, "RETRIES", 1)
    with pytest.raises(Unavailable, match="a worker of Ray has failed"):
        list(encode_on_ray(ray_workers.build_killed, images[:1], 8, []))


@pytest.mark.faults
@pytest.mark.parametrize("after", range(1, 141, 7))
def test_the_blocks_of_a_removed_node_are_repeated(
    cluster: Any, images: list[Path], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(ray_mapping, "BLOCK", 8)
    node = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    defects: list[Defect] = []
    results = []
    for result in encode_on_ray(ray_workers.build, images, 8, defects):
        results.append(result)
        if len(results) == after:
            cluster.remove_node(node, allow_graceful=False)
    check_equal(images, results, defects)


@pytest.mark.faults
def test_the_commands_give_the_same_features_and_index(
    cluster: Any, xmodal: Any, shapes_images: Path, tmp_path: Path, home: Path
) -> None:
    stores = [tmp_path / "direct", tmp_path / "ray"]
    engine = ("--engine", "ray")
    for store, options in zip(stores, ((), engine), strict=True):
        done = xmodal("features", shapes_images, "--split", "val", "--out", store, "--device", "cpu", *options)
        assert done.code == 0, done.err
    for file in stores[0].iterdir():
        other = stores[1] / file.name
        if file.suffix != ".safetensors":
            assert file.read_bytes() == other.read_bytes()
            continue
        facts = read_shard_metadata(file)  # a digest of the images is only that of images that this process reads
        assert facts.content and replace(facts, content="") == read_shard_metadata(other)
        assert map_shard(file).tobytes() == map_shard(other).tobytes()
    photos = tmp_path / "photos"
    shutil.copytree(next(shapes_images.rglob("*.png")).parent, photos)
    (photos / "zz.jpg").write_bytes(b"no image")
    exported = []
    for name, options in (("direct", ()), ("ray", engine)):
        done = xmodal("index", photos, "--index", name, "--json", *options)
        assert done.code == 0, done.err
        assert done.json["left_out"]["total"] == 1
        assert xmodal("vectors", "export", tmp_path / f"vectors-{name}", "--index", name).code == 0
        exported.append(np.load(next((tmp_path / f"vectors-{name}").rglob("*.npy"))))
    np.testing.assert_array_equal(*exported)


def test_settings_without_a_cluster_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName):
        Compute(engine="spark")
    with pytest.raises(ConfigError, match="--address is that of a Ray cluster"):
        Compute(address="auto")
    monkeypatch.setattr("xmodal_cli.device.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="Ray is not installed"):
        Compute(engine="ray").check()

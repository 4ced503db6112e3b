"""Images encoded by a Ray cluster: the results of one process, in order, also where workers and nodes end.

The tests with a cluster are among those of faults, because a machine that is busy starts its processes slowly.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
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
from xmodal_cli.features import ray_encoding
from xmodal_cli.features.ray_encoding import encode_on_ray
from xmodal_cli.types import Defect, Unreadable

ROOTS = (Path(__file__).parents[1], Path(__file__).parents[2])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes, each with one core and its own processes, on this machine."""
    patch = pytest.MonkeyPatch()  # before Ray is imported, which reads some of them then
    patch.setenv("PYTHONPATH", os.pathsep.join(map(str, ROOTS)))  # of the workers
    patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_worker_niceness", "0")
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20})
    nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    with ray_encoding.ray_cluster(nodes.address):
        yield nodes
    nodes.shutdown()
    patch.undo()


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
    monkeypatch.setattr(ray_encoding, "BLOCK", 8)
    read = []

    def paths() -> Iterator[Path]:
        for path in images:
            read.append(path)
            yield path

    next(encode_on_ray(ray_workers.build, paths(), 8, []))
    assert len(read) <= 2 * ray_encoding.AHEAD * 8


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
    monkeypatch.setattr(ray_encoding, "RETRIES", 1)
    with pytest.raises(Unavailable, match="a worker of Ray has failed"):
        list(encode_on_ray(ray_workers.build_killed, images[:1], 8, []))


@pytest.mark.faults
@pytest.mark.parametrize("after", range(1, 141, 7))
def test_the_blocks_of_a_removed_node_are_repeated(
    cluster: Any, images: list[Path], monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(ray_encoding, "BLOCK", 8)
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
        assert file.read_bytes() == (stores[1] / file.name).read_bytes()
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


def test_an_address_without_a_cluster_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("Could not connect to the cluster\nmore")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(Unavailable, match=r"the Ray cluster at auto cannot be used: Could not connect") as error,
        ray_encoding.ray_cluster("auto"),
    ):
        pass
    assert "more" not in error.value.message


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_where_nothing_listens_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray would try for minutes"))
    with socket.create_server(("localhost", 0)) as server:
        address = f"{scheme}localhost:{server.getsockname()[1]}"
    with pytest.raises(Unavailable, match=f"{address} cannot be used"), ray_encoding.ray_cluster(address):
        pass

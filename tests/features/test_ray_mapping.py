"""Connections to Ray clusters that do not exist, and the mapping of images without processes of a cluster."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.ray_fixtures import InlineRay

from xmodal_cli.data.images import ImageReader
from xmodal_cli.errors import Category, Unavailable
from xmodal_cli.features import ray_mapping
from xmodal_cli.features.ray_mapping import ImageMapping, MapBlock, Packed, map_on_ray
from xmodal_cli.types import Defect, Unreadable


def test_an_address_without_a_cluster_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("Could not connect to the cluster\nmore")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(Unavailable, match=r"the Ray cluster at auto cannot be used: Could not connect") as error,
        ray_mapping.ray_cluster("auto"),
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
    with pytest.raises(Unavailable, match=f"{address} cannot be used"), ray_mapping.ray_cluster(address):
        pass


def build(folders: list[str], reader: ImageReader) -> MapBlock:
    """The index and the name of each image; ``bad`` is unreadable, and ``cut`` has a defect."""
    folders.append(str(Path.cwd()))

    def map_block(paths: list[Path], first: int) -> Iterator[tuple[Path, Any]]:
        for index, path in enumerate(paths, first):
            if path.name == "cut":
                reader.defects.append(Defect(path, "cut", Category.DAMAGED))
            bad = Unreadable(path, f"{path} is bad", Category.RAW, True, "convert it")
            yield path, bad if path.name == "bad" else [index, path.name]

    return map_block


def pack(values: list[list[Any]]) -> Packed:
    return {}, values


def unpack(packed: Packed) -> list[list[Any]]:
    return list(packed[1])


@pytest.fixture
def mapping() -> Callable[[list[str]], ImageMapping[list[Any]]]:
    return lambda folders: ImageMapping(partial(build, folders), pack, unpack)


def test_blocks_and_results(inline_ray: InlineRay, mapping: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_mapping, "BLOCK", 5)
    names = ["a", "bad", "cut", os.fsdecode(b"\xff"), "\n", "e", "f"]
    paths, defects, folders = [Path("x", name) for name in names], list[Defect](), list[str]()
    results = list(map_on_ray(mapping(folders), iter(paths), 4, defects, first=10))
    assert [path for path, _ in results] == paths
    assert results[1][1] == Unreadable(paths[1], "x/bad is bad", Category.RAW, True, "convert it")
    assert [value for _, value in results if not isinstance(value, Unreadable)] == [
        [10 + index, name] for index, name in enumerate(names) if name != "bad"
    ]
    assert defects == [Defect(paths[2], "cut", Category.DAMAGED)]
    assert len(inline_ray.tasks) == 1  # a multiple of the batch size that is at least BLOCK
    assert folders == [str(Path.cwd())]  # built once


def test_the_working_folder_of_a_worker_is_that_of_the_results(
    inline_ray: InlineRay, mapping: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    remote = inline_ray.remote
    monkeypatch.setattr(inline_ray, "remote", lambda **needs: _elsewhere(remote(**needs), tmp_path))
    folders = list[str]()
    assert len(list(map_on_ray(mapping(folders), [Path("a")], 1, []))) == 1
    assert folders == [str(tmp_path / "here")]


def _elsewhere(decorate: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """Tasks that begin in ``folder``."""

    def to_task(function: Callable[..., Any]) -> Any:
        def in_folder(*arguments: Any) -> Any:
            os.chdir(folder)
            return function(*arguments)

        return decorate(in_folder)

    return to_task

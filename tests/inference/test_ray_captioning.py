"""Captions by a Ray cluster: those of one process, in order, also where workers end.

The tests with a cluster are among those of faults, because a machine that is busy starts its processes slowly.
"""

from __future__ import annotations

import dataclasses
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ray_workers
from helpers.ray_fixtures import InlineRay
from PIL import Image

from xmodal_cli.data.images import ImageReader
from xmodal_cli.device import Compute
from xmodal_cli.errors import BadModel
from xmodal_cli.inference.caption_types import CaptionRequest
from xmodal_cli.inference.ray_captioning import generator_on_ray
from xmodal_cli.reporter import SILENT
from xmodal_cli.types import Defect, Unreadable

REQUEST = CaptionRequest(models=("colors",), compute=Compute(engine="ray"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """150 images; one is truncated, one is unreadable."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:03d}.png" for number in range(150)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (4, 5, 3), np.uint8)).save(path)
    Image.effect_noise((200, 200), 50).convert("RGB").save(paths[10], "JPEG")
    paths[10].write_bytes(paths[10].read_bytes()[:-2000])
    paths[70].write_bytes(b"no image")
    return paths


def check_equal(load: Any, images: list[Path]) -> None:
    """The results of ``load`` on Ray are those of ``load_colors`` in this process."""
    local, reader = ImageReader(), ImageReader()
    expected = list(ray_workers.load_colors(REQUEST, local, 1, SILENT).captions(images, 7))
    generator = generator_on_ray(load, REQUEST, reader, len(images), SILENT)
    assert (generator.name, generator.warnings) == ("colors", ("a warning",))
    results = list(generator.captions(images, 7))
    assert [path for path, _ in results] == images
    for (_, found), (_, right) in zip(results, expected, strict=True):
        if isinstance(right, Unreadable):
            assert found == right
            continue
        assert not isinstance(found, Unreadable)
        for one, other in zip(found, right, strict=True):
            arrays = ("attention", "boxes")
            for name in arrays:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            none = dict.fromkeys(arrays)
            assert dataclasses.replace(one, **none) == dataclasses.replace(other, **none)
    assert reader.defects == local.defects == [Defect(images[10], reader.defects[0].reason, reader.defects[0].category)]


def test_captions_with_their_arrays(images: list[Path], inline_ray: InlineRay) -> None:
    check_equal(ray_workers.load_colors, images)


@pytest.mark.faults
def test_captions_are_those_of_one_process(cluster: Any, images: list[Path]) -> None:
    check_equal(ray_workers.load_colors, images)


@pytest.mark.faults
def test_the_block_of_a_killed_worker_is_repeated(cluster: Any, images: list[Path], tmp_path: Path) -> None:
    check_equal(partial(ray_workers.load_dying, tmp_path / "killed", "100.png"), images)
    assert (tmp_path / "killed").exists()


@pytest.mark.faults
def test_an_error_of_the_model_ends_the_captions(cluster: Any, images: list[Path]) -> None:
    generator = generator_on_ray(ray_workers.load_damaged, REQUEST, ImageReader(), len(images), SILENT)
    with pytest.raises(BadModel, match="the captioner returns NaN") as error:
        list(generator.captions(images))
    assert error.value.hint == "use --precision fp32"


@pytest.mark.faults
def test_the_command_prints_the_captions_of_one_process(
    cluster: Any, xmodal: Any, shapes_images: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the workers were started in another folder
    photos = Path("photos")
    photos.mkdir()
    for path in sorted(shapes_images.rglob("*.png"))[:70]:
        shutil.copy(path, photos)
    (photos / "m.jpg").write_bytes(b"no image")
    engine = ("--engine", "ray")
    for options in ((), ("--sample", "--num", 2), ("--beam", 2, "--set", "decoding.rerank=starter")):
        local, mapped = (xmodal("caption", photos, "--json", *options, *extra) for extra in ((), engine))
        assert local.code == mapped.code == 0, mapped.err
        assert mapped.out == local.out
        assert sum("error" in entry for entry in local.json) == 1
    for name, extra in (("direct", ()), ("ray", engine)):
        assert xmodal("index", photos, "--index", name).code == 0
        done = xmodal("caption", "--index", name, "--json", *extra)
        assert done.code == 0 and done.json["captioned"] == 70, done.err
        assert xmodal("vectors", "export", f"{name}.jsonl", "--index", name).code == 0
    assert Path("direct.jsonl").read_bytes() == Path("ray.jsonl").read_bytes()

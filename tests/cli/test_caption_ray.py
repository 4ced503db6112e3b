"""``xmodal caption --engine ray`` with a toy captioner: what it prints and writes is that of one process.

The tasks run in this process; ``tests/inference/test_ray_captioning.py`` has the tests with a cluster.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.ray_fixtures import InlineRay
from helpers.toy_captioner import Toy, install, paint

Run = Callable[..., Any]
CAPTION = ("caption", "--model", "toy")
RAY = ("--engine", "ray")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    return install(monkeypatch)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``photos/`` in the working folder: 150 readable ones, two unreadable ones and one that is truncated."""
    monkeypatch.chdir(tmp_path)
    for number in range(149):
        paint(tmp_path / "photos" / f"{number:03}.png", "red" if number % 3 else "blue", "green")
    paint(tmp_path / "photos" / "020.jpg", "white")
    (tmp_path / "photos" / "020.jpg").write_bytes((tmp_path / "photos" / "020.jpg").read_bytes()[:-2])
    for name in ("005b.jpg", "070b.jpg"):
        (tmp_path / "photos" / name).write_text("no image")
    return tmp_path / "photos"


def test_json_text_and_messages(xmodal: Run, toy: Toy, photos: Path, inline_ray: InlineRay) -> None:
    words = (*CAPTION, "photos", "gone.jpg", "--num", 2)
    local, mapped = xmodal(*words, "--json"), xmodal(*words, "--json", *RAY)
    assert local.code == mapped.code == 0
    assert mapped.out == local.out and len(local.json) == 153
    assert [len(block.split(b"\0")) for _, block, _ in inline_ray.tasks] == [64, 64, 24]
    assert [first for *_, first in inline_ray.tasks] == [0, 64, 128]

    def messages(outcome: Any) -> list[str]:
        return [line for line in outcome.err.splitlines() if not line.startswith("captioning")]

    local, mapped = xmodal(*words), xmodal(*words, *RAY)
    assert mapped.out == local.out and local.out.count("\t") == 300
    assert messages(mapped) == messages(local) and sum("warning: " in line for line in messages(local)) == 4
    assert "left out: 3 files" in local.err


def test_samples_have_the_random_numbers_of_one_process(
    xmodal: Run, toy: Toy, photos: Path, inline_ray: InlineRay
) -> None:
    indices = []
    for options in ((), RAY):
        toy.first_indices.clear()
        toy.batch_sizes.clear()
        assert xmodal(*CAPTION, "photos", "--sample", *options).code == 0
        indices.append(list(zip(toy.first_indices, toy.batch_sizes, strict=True)))
    assert indices[0] == indices[1]
    covered = [index for first, size in indices[0] for index in range(first, first + size)]
    names = sorted(path.name for path in photos.iterdir())
    unreadable = {names.index("005b.jpg"), names.index("070b.jpg")}
    assert covered == [index for index in range(152) if index not in unreadable]


def test_caption_files(xmodal: Run, toy: Toy, photos: Path, inline_ray: InlineRay) -> None:
    (photos / "001.txt").write_text("mine\n")
    outcome = xmodal(*CAPTION, "photos", "--write", "txt", *RAY)
    assert outcome.code == 0
    assert "photos/001.txt already exists; --force overwrites it" in outcome.err
    assert (photos / "001.txt").read_text() == "mine\n"
    assert (photos / "148.txt").read_text() == "red and green\n"
    assert not (photos / "005b.txt").exists()


def test_attention_maps(xmodal: Run, toy: Toy, photos: Path, inline_ray: InlineRay) -> None:
    some = [photos / "000.png", photos / "001.png", photos / "005b.jpg"]
    for folder, options in (("local", ()), ("mapped", RAY)):
        assert xmodal(*CAPTION, *some, "--attention", folder, *options).code == 0
    files = sorted(path.name for path in Path("local").iterdir())
    assert files == sorted(path.name for path in Path("mapped").iterdir()) and len(files) == 3
    for name in files:
        assert Path("local", name).read_bytes() == Path("mapped", name).read_bytes()


def test_a_single_unreadable_photo_is_an_error(xmodal: Run, toy: Toy, photos: Path, inline_ray: InlineRay) -> None:
    local, mapped = xmodal(*CAPTION, "photos/005b.jpg"), xmodal(*CAPTION, "photos/005b.jpg", *RAY)
    assert (mapped.code, mapped.out, mapped.err) == (1, "", local.err)


def test_truncated_photos_with_strict(
    xmodal: Run, toy: Toy, photos: Path, inline_ray: InlineRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XMODAL_STRICT", "")  # the option sets it
    found = xmodal(*CAPTION, "photos/019.png", "photos/020.jpg", "--json", "--strict", *RAY).json
    assert ["error" in entry for entry in found] == [False, True]
    (job, *_), *_ = inline_ray.tasks
    assert job.settings.strict  # of this process, not of the environment of a worker


def test_usage(xmodal: Run, toy: Toy, photos: Path) -> None:
    outcome = xmodal(*CAPTION, "photos/000.png", "--address", "auto")
    assert outcome.code == 1 and "--address is that of a Ray cluster" in outcome.err
    assert xmodal(*CAPTION, "photos/000.png", "--engine", "spark").code == 2

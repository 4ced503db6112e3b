"""``xmodal demo`` with few images and short training runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from xmodal_cli.config import load_config
from xmodal_cli.data.shapes import make_shapes
from xmodal_cli.demo import own_photos, run
from xmodal_cli.recipes.models import set_default
from xmodal_cli.training import loop

SMALL = ["model.embed_dim=16", "training.epochs=2", "training.batch_size=40", "training.log_every=1"]
NUM = {"num_train": 16, "num_val": 4, "num_test": 6}

Xmodal = Callable[..., Any]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An XMODAL_HOME in which a small demo has run once, and its result."""
    home = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(home))
        patch.setattr(run, "load_config", lambda preset: load_config(preset, SMALL))
        make_shapes(home / "data" / "shapes", **NUM)
        result = run.demo().facts()
    return home, json.loads(json.dumps(result))


@pytest.fixture
def after(
    finished: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, dict[str, Any]]:
    """The XMODAL_HOME and the result of the finished demo, set up for a test."""
    home = finished[0]
    monkeypatch.setenv("XMODAL_HOME", str(home))
    monkeypatch.setattr(run, "load_config", lambda preset: load_config(preset, SMALL))
    return home, finished[1]


def photos_in(folder: Path, count: int) -> Path:
    for number in range(count):
        (folder / "deeper").mkdir(parents=True, exist_ok=True)
        image = Image.new("RGB", (80, 60), (40 * number % 256, 90, 200))
        image.save(folder / "deeper" / f"photo {number}.jpg")
    return folder


def test_the_result(finished: tuple[Path, dict[str, Any]]) -> None:
    home, result = finished
    assert result["run"] == str(home / "runs" / "demo-shapes")
    assert result["captioner"]["run"] == str(home / "runs" / "demo-captioner-shapes")
    assert result["index"] == str(home / "indexes" / "demo")
    assert result["eval"]["images"] == result["captioner"]["eval"]["images"] == 6
    assert {"R@1", "R@5", "R@10"} <= result["eval"]["text_to_image"].keys()
    assert [len(search["hits"]) for search in result["searches"]] == [5, 5, 5]
    assert len(result["captioner"]["captions"]) == 3
    truth = result["captioner"]["truth"]
    assert truth["captions"] == 6
    assert truth["true"] + len(truth["false"]) == 6
    assert result["photos"] is None
    assert len(result["next"]) == 3
    for path in (result["page"], result["picture"], result["run"] + "/curves.png"):
        assert Path(path).is_file()


def test_finished_steps_are_not_repeated(
    after: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, xmodal: Xmodal
) -> None:
    def never(*args: object, **named: object) -> None:
        raise AssertionError("trained again")

    home, first = after
    before = {path: path.stat().st_mtime_ns for path in (home / "cache").rglob("*") if path.is_file()}
    monkeypatch.setattr(run, "train_model", never)
    again = xmodal("demo", "--json")
    assert again.code == 0
    assert {k: again.json[k] for k in first if k != "seconds"} == {k: first[k] for k in first if k != "seconds"}
    assert before == {path: path.stat().st_mtime_ns for path in (home / "cache").rglob("*") if path.is_file()}


def test_the_text_output(after: tuple[Path, dict[str, Any]], xmodal: Xmodal) -> None:
    outcome = xmodal("demo")
    assert outcome.code == 0
    first = after[1]
    assert first["page"] in outcome.out
    for command in first["next"]:
        assert f"  {command}\n" in outcome.out
    for search in first["searches"]:
        assert f'"{search["query"]}": the correct image' in outcome.out
    assert f"{first['captioner']['truth']['true']} of 6 captions are true" in outcome.out
    assert "7/7" in outcome.err


def test_an_interrupted_demo_resumes(
    after: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xmodal: Xmodal
) -> None:
    """Ctrl-C in the second epoch of the captioner; the next demo has the result of an uninterrupted one."""
    home = tmp_path / "home"
    shutil.copytree(after[0], home)
    monkeypatch.setenv("XMODAL_HOME", str(home))
    shutil.rmtree(home / "runs" / "demo-captioner-shapes")
    real, epochs = loop._Loop.train_epoch, []

    def interrupted(self: Any) -> None:
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "train_epoch", interrupted)
        stopped = xmodal("demo", "--json")
    assert (stopped.code, stopped.out) == (130, "")
    ended = xmodal("demo", "--json").json
    assert "resuming" not in ended
    log = (home / "runs" / "demo-captioner-shapes" / "log.jsonl").read_text()
    assert [json.loads(line)["epoch"] for line in log.splitlines() if '"eval"' in line] == [1, 2]
    assert ended["captioner"]["truth"] == after[1]["captioner"]["truth"]


def test_runs_with_other_settings_are_kept(
    after: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xmodal: Xmodal
) -> None:
    """As after an upgrade: the demo trains a new run next to the old one and rebuilds its index."""
    home = tmp_path / "home"
    shutil.copytree(after[0], home)
    monkeypatch.setenv("XMODAL_HOME", str(home))
    old = (home / "runs" / "demo-shapes" / "model.safetensors").read_bytes()
    other = [*SMALL, "optimizer.lr=0.01"]
    monkeypatch.setattr(run, "load_config", lambda preset: load_config(preset, other if preset == "demo" else SMALL))
    result = xmodal("demo", "--json")
    assert result.code == 0, result.err
    assert result.json["run"] == str(home / "runs" / "demo-shapes-2")
    assert result.json["captioner"]["run"] == str(home / "runs" / "demo-captioner-shapes")
    assert json.loads((home / "indexes" / "demo" / "index.json").read_text())["model"]["name"] == "demo-shapes-2"
    assert (home / "runs" / "demo-shapes" / "model.safetensors").read_bytes() == old


# ---------------------------------------------------------------------------- own photos


def test_own_photos(
    after: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xmodal: Xmodal
) -> None:
    folder = photos_in(tmp_path / "My Photos", 8)
    (folder / "broken.jpg").write_bytes(b"not an image")
    seen = {path: path.read_bytes() for path in folder.rglob("*.jpg")}
    home = tmp_path / "home"
    shutil.copytree(after[0], home)
    monkeypatch.setenv("XMODAL_HOME", str(home))
    set_default("demo-shapes")
    set_default("demo-captioner-shapes")
    result = xmodal("demo", folder, "--json")
    assert result.code == 0, result.err
    photos = result.json["photos"]
    assert (photos["folder"], photos["found"]) == (str(folder), 9)
    assert (photos["index"]["index"], photos["index"]["items"]) == ("demo-My Photos", 8)
    assert (photos["index"]["model"], photos["captioner"]) == ("demo-shapes", "demo-captioner-shapes")
    assert len(photos["captions"]) == 6
    assert [search["query"] for search in photos["searches"]][-2:] == list(own_photos.GENERAL)
    assert photos["searches"][0]["query"] == photos["captions"][0]["text"]
    # the vectors of a model that was trained for two epochs are so similar that photos are folded as copies
    assert all(sum(1 + hit["duplicates"] for hit in search["hits"]) >= 5 for search in photos["searches"])
    assert [problem.partition(":")[0] for problem in photos["problems"]] == [str(folder / "broken.jpg")]
    assert seen == {path: path.read_bytes() for path in folder.rglob("*.jpg")}
    page = Path(result.json["page"]).read_text()
    assert "Your photos" in page
    assert result.json["next"][0].endswith("--index 'demo-My Photos'")


def test_large_folders_are_sampled_deterministically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_photos, "MAX_PHOTOS", 3)
    folder = photos_in(tmp_path / "many", 7)
    some = own_photos.find_own_photos(folder)
    assert (some.num_found, len(some.sample)) == (7, 3)
    (folder / "new.jpg").write_bytes(b"")
    assert len(set(some.sample) & set(own_photos.find_own_photos(folder).sample)) >= 2


def test_folders_with_the_same_name_get_different_indexes(tmp_path: Path, home: Path) -> None:
    (home / "indexes" / "demo-Photos").mkdir(parents=True)
    (home / "indexes" / "demo-Photos" / "notes.txt").write_text("not an index")
    assert own_photos._index_name(tmp_path / "Photos") == "demo-Photos-2"


def test_a_folder_without_photos_is_an_error_before_the_first_step(tmp_path: Path, home: Path, xmodal: Xmodal) -> None:
    (tmp_path / "empty").mkdir()
    for name, reason in (("empty", "has no photos"), ("gone", "does not exist")):
        outcome = xmodal("demo", tmp_path / name)
        assert outcome.code == 1
        assert reason in outcome.err.splitlines()[0]
    assert not any(home.iterdir())

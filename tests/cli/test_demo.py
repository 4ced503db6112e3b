"""``xmodal demo`` from nothing to the page, made small: few pictures, short trainings, the same road."""

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
    """A home in which a small demo has run once, and what it said."""
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
    """The finished demo's home, for one test alone."""
    home = finished[0]
    monkeypatch.setenv("XMODAL_HOME", str(home))
    monkeypatch.setattr(run, "load_config", lambda preset: load_config(preset, SMALL))
    return home, finished[1]


def photos_in(folder: Path, count: int) -> Path:
    for number in range(count):
        (folder / "deeper").mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (80, 60), (40 * number % 256, 90, 200))
        picture.save(folder / "deeper" / f"photo {number}.jpg")
    return folder


def test_it_tells_what_it_made(finished: tuple[Path, dict[str, Any]]) -> None:
    home, told = finished
    assert told["run"] == str(home / "runs" / "demo-shapes")
    assert told["captioner"]["run"] == str(home / "runs" / "demo-captioner-shapes")
    assert told["index"] == str(home / "indexes" / "demo")
    assert told["eval"]["images"] == told["captioner"]["eval"]["images"] == 6
    assert {"R@1", "R@5", "R@10"} <= told["eval"]["text_to_image"].keys()
    assert [len(search["hits"]) for search in told["searches"]] == [5, 5, 5]
    assert len(told["captioner"]["captions"]) == 3
    truth = told["captioner"]["truth"]
    assert truth["captions"] == 6
    assert truth["true"] + len(truth["false"]) == 6
    assert told["photos"] is None
    assert len(told["next"]) == 3
    for path in (told["page"], told["picture"], told["run"] + "/curves.png"):
        assert Path(path).is_file()


def test_what_is_finished_is_not_done_again(
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


def test_words_for_people(after: tuple[Path, dict[str, Any]], xmodal: Xmodal) -> None:
    said = xmodal("demo")
    assert said.code == 0
    first = after[1]
    assert first["page"] in said.out
    for command in first["next"]:
        assert f"  {command}\n" in said.out
    for search in first["searches"]:
        assert f'"{search["query"]}": the right picture is' in said.out
    assert f"{first['captioner']['truth']['true']} of 6 captions are true" in said.out
    assert "7/7" in said.err


def test_an_interrupted_demo_goes_on(
    after: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xmodal: Xmodal
) -> None:
    """Ctrl-C in the second epoch of the captioner; the next demo ends as the one that was never stopped."""
    home = tmp_path / "home"
    shutil.copytree(after[0], home)
    monkeypatch.setenv("XMODAL_HOME", str(home))
    shutil.rmtree(home / "runs" / "demo-captioner-shapes")
    real, epochs = loop._train_epoch, []

    def interrupted(*args: Any) -> None:
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_train_epoch", interrupted)
        stopped = xmodal("demo", "--json")
    assert (stopped.code, stopped.out) == (130, "")
    ended = xmodal("demo", "--json").json
    assert "resuming" not in ended
    log = (home / "runs" / "demo-captioner-shapes" / "log.jsonl").read_text()
    assert [json.loads(line)["epoch"] for line in log.splitlines() if '"eval"' in line] == [1, 2]
    assert ended["captioner"]["truth"] == after[1]["captioner"]["truth"]


def test_a_training_with_other_settings_is_left_alone(
    after: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xmodal: Xmodal
) -> None:
    """As after an upgrade: the demo trains beside the old run, and makes its index anew with the new model."""
    home = tmp_path / "home"
    shutil.copytree(after[0], home)
    monkeypatch.setenv("XMODAL_HOME", str(home))
    old = (home / "runs" / "demo-shapes" / "model.safetensors").read_bytes()
    other = [*SMALL, "optimizer.lr=0.01"]
    monkeypatch.setattr(run, "load_config", lambda preset: load_config(preset, other if preset == "demo" else SMALL))
    told = xmodal("demo", "--json")
    assert told.code == 0, told.err
    assert told.json["run"] == str(home / "runs" / "demo-shapes-2")
    assert told.json["captioner"]["run"] == str(home / "runs" / "demo-captioner-shapes")
    assert json.loads((home / "indexes" / "demo" / "index.json").read_text())["model"]["name"] == "demo-shapes-2"
    assert (home / "runs" / "demo-shapes" / "model.safetensors").read_bytes() == old


# ---------------------------------------------------------------------------- somebody's own photos


def test_own_photos(
    after: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xmodal: Xmodal
) -> None:
    folder = photos_in(tmp_path / "My Pictures", 8)
    (folder / "broken.jpg").write_bytes(b"no picture")
    seen = {path: path.read_bytes() for path in folder.rglob("*.jpg")}
    home = tmp_path / "home"
    shutil.copytree(after[0], home)
    monkeypatch.setenv("XMODAL_HOME", str(home))
    set_default("demo-shapes")
    set_default("demo-captioner-shapes")
    told = xmodal("demo", folder, "--json")
    assert told.code == 0, told.err
    photos = told.json["photos"]
    assert (photos["folder"], photos["found"]) == (str(folder), 9)
    assert (photos["index"]["index"], photos["index"]["items"]) == ("demo-My Pictures", 8)
    assert (photos["index"]["model"], photos["captioner"]) == ("demo-shapes", "demo-captioner-shapes")
    assert len(photos["captions"]) == 6
    assert [search["query"] for search in photos["searches"]][-2:] == list(own_photos.GENERAL)
    assert photos["searches"][0]["query"] == photos["captions"][0]["text"]
    assert all(len(search["hits"]) == 5 for search in photos["searches"])
    assert [problem.partition(":")[0] for problem in photos["problems"]] == [str(folder / "broken.jpg")]
    assert seen == {path: path.read_bytes() for path in folder.rglob("*.jpg")}
    page = Path(told.json["page"]).read_text()
    assert "Your photos" in page
    assert told.json["next"][0].endswith("--index 'demo-My Pictures'")


def test_only_some_of_many_are_taken_and_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_photos, "MAX_PHOTOS", 3)
    folder = photos_in(tmp_path / "many", 7)
    some = own_photos.find_own_photos(folder)
    assert (some.num_found, len(some.sample)) == (7, 3)
    (folder / "new.jpg").write_bytes(b"")
    assert len(set(some.sample) & set(own_photos.find_own_photos(folder).sample)) >= 2


def test_folders_of_one_name_have_an_index_each(tmp_path: Path, home: Path) -> None:
    (home / "indexes" / "demo-Pictures").mkdir(parents=True)
    (home / "indexes" / "demo-Pictures" / "notes.txt").write_text("not an index")
    assert own_photos._index_name(tmp_path / "Pictures") == "demo-Pictures-2"


def test_a_folder_without_pictures_is_told_before_anything_is_done(tmp_path: Path, home: Path, xmodal: Xmodal) -> None:
    (tmp_path / "empty").mkdir()
    for place, reason in (("empty", "has no photos"), ("gone", "does not exist")):
        said = xmodal("demo", tmp_path / place)
        assert said.code == 1
        assert reason in said.err.splitlines()[0]
    assert not any(home.iterdir())

"""Captions by several captioners: at most two are loaded, and a captioner that was replaced is loaded again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.served_captioners import write_captioners
from helpers.served_photos import paint

from xmodal_cli.errors import BadModel, ConfigError, Unavailable, UnknownName
from xmodal_cli.inference import image_captioning
from xmodal_cli.inference.caption_types import Caption, CaptionGenerator
from xmodal_cli.paths import MODEL_FILE, runs_dir
from xmodal_cli.recipes.models import set_default
from xmodal_cli.serve.caption_service import MAX_LOADED, CaptionService


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_home: None) -> list[str]:
    """The models that were loaded, as captioners of few words; ``my-run`` is the default."""
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "home"))
    write_captioners()
    set_default("my-run")
    found = list[str]()

    def load(request, reader):
        if request.attention is not None:
            raise ConfigError("no maps")
        (what,) = request.models
        if what == "no-model":
            raise ModuleNotFoundError("No module named 'transformers'", name="transformers")
        found.append(what)
        caption = Caption(f"by {what}", -1.0, ["by", what])
        return CaptionGenerator(what, lambda paths: iter([(paths[0], [caption])]))

    monkeypatch.setattr(image_captioning, "load_generator", load)
    return found


def test_at_most_two_captioners_are_loaded(loaded: list[str]) -> None:
    service = CaptionService("auto")
    texts = [service.caption(Path("a.jpg"), name)["captions"][0]["text"] for name in (None, "my-run", "damaged")]
    assert texts == ["by my-run", "by my-run", "by damaged"] and loaded == ["my-run", "damaged"]
    service.caption(Path("a.jpg"), "my-run")
    service.caption(Path("a.jpg"), "starter-captioner")  # instead of damaged
    assert len(service._generators) == MAX_LOADED == 2
    service.caption(Path("a.jpg"), "my-run")
    assert loaded == ["my-run", "damaged", "starter-captioner"]
    service.caption(Path("a.jpg"), "damaged")
    assert loaded[3:] == ["damaged"]


def test_a_captioner_that_was_replaced_is_loaded_again(loaded: list[str]) -> None:
    service = CaptionService("auto")
    service.caption(Path("a.jpg"))
    os.utime(runs_dir() / "my-run" / MODEL_FILE, (1, 1))
    service.caption(Path("a.jpg"))
    assert loaded == ["my-run", "my-run"] and len(service._generators) == 1
    set_default("starter-captioner")
    assert service.caption(Path("a.jpg"))["model"] == "starter-captioner"


def test_errors_of_names_and_packages(loaded: list[str]) -> None:
    service = CaptionService("auto")
    for name in ("/etc/passwd", "nothing"):
        with pytest.raises(UnknownName):
            service.caption(Path("a.jpg"), name)
    with pytest.raises(Unavailable, match="needs the package transformers"):
        service.caption(Path("a.jpg"), "no-model")
    assert loaded == []


def test_real_captioners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_home: None) -> None:
    monkeypatch.setenv("XMODAL_HOME", str(tmp_path / "home"))
    write_captioners()
    service, photo = CaptionService("auto"), paint(tmp_path / "a.jpg", 0)
    first, second = service.caption(photo), service.caption(photo, "my-run")
    assert second["model"] == "my-run" and second["captions"] == first["captions"]
    for name, message in (
        ("damaged", "checksum of its weights is wrong"),
        ("no-model", "no-model"),
        ("other", "is a matcher"),
    ):
        with pytest.raises(BadModel, match=message):
            service.caption(photo, name)
    assert len(service._generators) <= MAX_LOADED

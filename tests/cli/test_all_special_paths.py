"""A path that is not a file: every argument and option that takes one names the reason, and never waits or writes."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

INPUTS = (
    ("data", "info", "@"),
    ("data", "add", "name", "@"),
    ("features", "@"),
    ("features", "--model", "starter", "--text", "@"),
    ("features", "shapes.jsonl", "--model", "@"),
    ("features", "shapes.jsonl", "--backbone", "vgg19@@"),
    ("features", "shapes.jsonl", "--kind", "regions", "--backbone", "bottom-up@@"),
    ("train", "--model", "@.toml"),
    ("train", "--model", "demo", "--data", "@"),
    ("train", "--model", "demo", "--data", "shapes.jsonl", "--init-from", "@"),
    ("eval", "@", "--data", "shapes.jsonl"),
    ("eval", "@.json", "--data", "shapes.jsonl"),
    ("eval", "@.npz", "--data", "shapes.jsonl"),
    ("eval", "@.safetensors", "--data", "shapes.jsonl"),
    ("index", "@"),
    ("index", ".", "--model", "@"),
    ("caption", "@"),
    ("caption", ".", "--model", "@"),
    ("models", "info", "@"),
    ("models", "default", "@"),
    ("models", "convert", "@.pt"),
    ("models", "average", "@", "starter", "--out", "average.safetensors"),
    ("demo", "@"),
    ("vectors", "import", "@", "--index", "new"),
)
OUTPUTS = (
    ("data", "make", "shapes", "@"),
    ("features", "shapes.jsonl", "--out", "@"),
    ("features", "shapes.jsonl", "--model", "starter", "--out", "@.npz"),
    ("features", "shapes.jsonl", "--model", "starter", "--out", "@.safetensors"),
    ("train", "--model", "demo", "--data", "shapes.jsonl", "--out", "@"),
    ("eval", "starter", "--data", "shapes.jsonl", "--ranks", "@.csv"),
    ("eval", "starter", "--data", "shapes.jsonl", "--report", "@"),
    ("index", ".", "--index", "./@"),
    ("caption", "photo.png", "--attention", "@"),
    ("models", "average", "starter", "starter", "--out", "@.safetensors"),
)
KINDS = {  # and what the error states; not as "there is no ..." of a path that exists
    "pipe": "named pipe|not a folder",
    "socket": "a socket|not a folder",
    "device": "a device|not a folder",
    "loop": "(?i)symbolic links|not exist",
    "absent": "(?i)not exist|no such file|there (is|are) no|not found",
}
pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are POSIX")
_SUFFIXES = ("", ".toml", ".json", ".npz", ".safetensors", ".pt", ".csv", ".html", ".png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a dataset and paths of all ``KINDS``; a command that waits fails after 100 s."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32)).save("photo.png")
    Path("shapes.jsonl").write_text('{"image": "photo.png", "captions": ["a square"], "split": "test"}\n')
    for suffix in _SUFFIXES:
        os.mkfifo(f"pipe{suffix}")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"socket{suffix}")
        Path(f"device{suffix}").symlink_to("/dev/zero")
        Path(f"loop{suffix}").symlink_to(f"loop{suffix}")
        Path(f"absent{suffix}").symlink_to("nowhere")

    def stop(*_: object) -> None:
        raise TimeoutError("the command waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(100)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _at(path: str, command: Sequence[str]) -> list[str]:
    return [part.replace("@@", f"@{path}") if "@@" in part else part.replace("@", path) for part in command]


@pytest.mark.parametrize("command", INPUTS, ids=" ".join)
def test_an_input(folder: Path, xmodal: Callable[..., Any], command: Sequence[str]) -> None:
    for kind, reason in KINDS.items():
        outcome = xmodal(*_at(kind, command))
        assert outcome.code == 1, (kind, outcome)
        assert re.search(reason, outcome.err), (kind, outcome.err)


@pytest.mark.parametrize("command", OUTPUTS, ids=" ".join)
def test_an_output(folder: Path, xmodal: Callable[..., Any], command: Sequence[str]) -> None:
    for kind in ("pipe", "socket", "device"):
        outcome = xmodal(*_at(kind, command))
        assert outcome.code == 1, (kind, outcome)
        assert f"{kind}" in outcome.err
        assert "bug" not in outcome.err
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


@pytest.mark.parametrize("command", [*INPUTS, *OUTPUTS], ids=" ".join)
def test_an_empty_path_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xmodal: Callable[..., Any], command: Sequence[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = _at("", command)
    if not any(argument == "" or argument.endswith("=") for argument in arguments):
        pytest.skip("the path is a part of an argument")
    outcome = xmodal(*arguments)
    assert outcome.code == 1 and " is empty" in outcome.err, outcome
    assert not list(tmp_path.iterdir())

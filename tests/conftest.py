"""Fixtures that every test may use: a private home, the command line in-process, the real data where it is."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = [
    f"helpers.{name}_fixtures" for name in ("error", "evaluation", "feature", "index", "ray", "region", "run", "tag")
]

FAILED = pytest.StashKey[bool]()
LOCAL = ("127.0.0.1", "0.0.0.0", "::1", "localhost")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # as __main__ does, and before anything loads torch


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember which tests failed."""
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Function) -> Generator[None, None, None]:
    """Delete the folders of a test that passed: those of all tests take more than 6 GB.

    pytest's own deletion is before monkeypatch is undone, so that a patched ``os`` breaks it.
    """
    folders = [item.funcargs[name] for name in ("tmp_path", "home") if name in item.funcargs]
    yield
    if not item.stash.get(FAILED, False):
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty XMODAL_HOME for each test."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XMODAL_HOME", str(folder))
    monkeypatch.delenv("XMODAL_DEBUG", raising=False)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections of this process to other machines."""
    connect = socket.socket.connect

    def connect_here(own: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and address[0] not in LOCAL:
            raise AssertionError(f"a connection to {address[0]}")
        connect(own, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)


@pytest.fixture
def xmodal(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run one command line in this process: ``xmodal("data", "list", "--json").json``."""
    from xmodal_cli.__main__ import main

    def run(*args: object) -> Outcome:
        capsys.readouterr()
        code = main([str(a) for a in args])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with ``f8k/`` and ``photos/``; skips where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("XMODAL_TEST_DATA") or beside)
    if not (folder / "f8k").is_dir():
        pytest.skip(f"the Flickr8k files are not at {folder}; set XMODAL_TEST_DATA")
    return folder


@pytest.fixture
def tiny_clip(tmp_path: Path) -> Callable[..., tuple[str, Any]]:
    """``tiny_clip(kind, changes)``: the name ``open_clip/ARCH@FILE`` of a tiny model of random weights, and itself."""

    def make(kind: str = "plain", changes: dict[str, Any] | None = None) -> tuple[str, Any]:
        import open_clip
        import torch
        from safetensors.torch import save_file

        text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
        vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
        changes = dict(changes or {})
        text |= changes.pop("text_cfg", {})
        arch = f"xmodal-tiny-{kind}"
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text, **changes}
        (tmp_path / f"{arch}.json").write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path / f"{arch}.json")
        torch.manual_seed(0)
        network = open_clip.create_model(arch).eval()
        for parameter in network.parameters():  # as they come, its vectors are all much alike
            parameter.data += 0.1 * torch.randn_like(parameter)
        weights = tmp_path / f"{arch}.safetensors"
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, weights)
        return f"open_clip/{arch}@{weights}", network

    return make

"""Fixtures of the tests of error messages: small datasets, runs on them, and a check of the files afterwards.

Each of these tests runs the command line. It must exit with code 1, print nothing on stdout and one line ``error:`` and
one ``hint:`` on stderr, leave no temporary files and change no existing files.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.error_checks import SMALL, MeanColors, write_images, write_vectors
from xmodal_cli.backbones import image_backbones
from xmodal_cli.config import load_config
from xmodal_cli.features import cache
from xmodal_cli.recipes.train import train_model


@pytest.fixture(scope="module")
def mean_color_backbone() -> Iterator[None]:
    """Replace the default backbone by MeanColors."""
    real = image_backbones.build_backbone

    def build(name: str, kind: str = "global", crops: int = 1) -> Any:
        return MeanColors() if name == "efficientnet-lite2" else real(name, kind, crops)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_backbones, "build_backbone", build)
        patch.setattr(cache, "build_backbone", build)
        yield


@pytest.fixture(scope="module")
def vector_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vectors(tmp_path_factory.mktemp("data") / "vectors")


@pytest.fixture(scope="module")
def image_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def vector_run(vector_data: Path) -> Path:
    """A run on precomputed features; copy it before changing it."""
    return train_model(load_config("vse", SMALL), str(vector_data), vector_data.parent / "vectors-run").run


@pytest.fixture(scope="module")
def image_run(image_data: Path) -> Iterator[Path]:
    """A run on images with the default backbone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMODAL_HOME", str(image_data.parent / "home"))
        yield train_model(load_config("vse", SMALL), str(image_data), image_data.parent / "images-run").run


@pytest.fixture
def no_temporary_files(tmp_path: Path, home: Path) -> Iterator[None]:
    yield
    assert [f for folder in (tmp_path, home) for f in folder.rglob("*") if f.name.endswith((".tmp", ".part"))] == []


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network: no host name resolves, and the caches of the hubs are empty."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))

"""A fixture that disables the network."""

from __future__ import annotations

import socket

import pytest
import torch


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Host names cannot be resolved, and all caches are empty."""

    def refuse(*args, **kwargs):
        raise socket.gaierror("no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path

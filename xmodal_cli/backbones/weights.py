"""Weights files: found, downloaded where a hub can be reached, checked, read. Nothing is ever unpickled freely."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import socket
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from xmodal_cli.errors import BadData, DownloadError, StorageError
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.paths import cache_dir, write_text

STATE_DICTS = ("state_dict", "model_state_dict", "model")  # under which trainers keep the weights
MIN_CACHED_BYTES = 64_000_000  # bytes; what is smaller is read through in less than a tenth of a second


def cached_fingerprint(file: Path) -> str:
    """``sha256_of(file)``, remembered for large files by their size and time of change."""
    stat = file.stat()
    if stat.st_size < MIN_CACHED_BYTES:
        return sha256_of(file)
    key = hashlib.sha256(f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()
    note = cache_dir() / "fingerprints" / key[:32]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest = note.read_text(encoding="utf-8")
        if len(digest) == 64 and _is_hex(digest):
            return digest
    digest = sha256_of(file)
    with contextlib.suppress(StorageError):  # a cache that cannot be written costs time, nothing else
        write_text(note, digest)
    return digest


def read_weights(file: Path) -> dict[str, Tensor]:
    """Name -> tensor, from a ``.safetensors`` file or a PyTorch checkpoint of plain tensors. Raises BadData."""
    with weights_errors(file):
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(file))
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    tables = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    if not tables or not all(isinstance(value, Tensor) for value in tables.values()):
        raise BadData(f"{file} does not hold the weights of a network", "give a state dict (.safetensors, .pth, .pt)")
    return dict(tables)


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The tensors of a training checkpoint, wherever in it the state dict is; ``module.`` before all names goes.

    Raises BadData, also for what only unpickling could read.
    """
    hint = "open it where it comes from, with code that you trust, and save its state_dict() with torch.save"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of TorchScript archives, which are refused below
            found = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, struct.error) as error:
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            reason = f"{file} holds objects or program code beside its weights; reading it would run them"
            raise BadData(reason, hint) from error
        raise BadData(f"{file} is damaged or no checkpoint of PyTorch's", "fetch it again") from error
    while isinstance(found, Mapping) and (inner := next((k for k in STATE_DICTS if k in found), None)):
        found = found[inner]
    if not isinstance(found, Mapping) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise BadData(f"{file} does not hold the weights of a network", hint)
    if all(name.startswith("module.") for name in found):
        return {name.removeprefix("module."): tensor for name, tensor in found.items()}
    return dict(found)


def load_weights(network: nn.Module, file: Path, allow_more: bool = False) -> nn.Module:
    """Fill ``network`` with the weights of ``file``, every one of them. Raises BadData.

    ``allow_more`` lets the file hold more than the network takes, such as a classifier.
    """
    weights = read_weights(file)
    if allow_more:
        weights = {name: tensor for name, tensor in weights.items() if name in network.state_dict()}
    with weights_errors(file):
        network.load_state_dict(weights)
    return network


@contextlib.contextmanager
def weights_errors(file: Path) -> Iterator[None]:
    """Turn what the readers of foreign checkpoints raise into BadData."""
    from safetensors import SafetensorError

    try:
        yield
    except (
        RuntimeError,
        SafetensorError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        ValueError,
        struct.error,
    ) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = " ".join(lines[:2])[:200] or type(error).__name__
        raise BadData(
            f"the weights in {file} cannot be used: {reason}",
            "they may be damaged or belong to another network; remove the file or give the right one",
        ) from error


def torch_hub_file(url: str) -> Path:
    """The file of ``url`` in torch's hub cache, downloaded if it is not there. Raises DownloadError."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / Path(urlparse(url).path).name
    if target.is_file():
        return target
    hint = f"download {url} and save it as {target}"
    with download_errors(target.name, hint):
        check_reachable(url)
        folder.mkdir(parents=True, exist_ok=True)
        digest = target.stem.rpartition("-")[2]  # torch names its files NAME-SHA256PREFIX.pth
        torch.hub.download_url_to_file(url, str(target), digest if _is_hex(digest) else None)
    return target


def hugging_face_file(repo: str, names: Sequence[str], what: str, remedy: str = "") -> Path:
    """The first of ``names`` that ``repo`` has, from the Hugging Face cache or hub. Raises DownloadError.

    ``what`` is the backbone they are of, or with ``remedy`` anything else that a person needs from there.
    """
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        with contextlib.suppress(LocalEntryNotFoundError, FileNotFoundError):
            return Path(hf_hub_download(repo, name, local_files_only=True))
    url = hf_hub_url(repo, names[0])
    remedy = remedy or f"name the backbone {what}@FILE, or put the file into the Hugging Face cache"
    with download_errors(what, f"download {url} and {remedy}"):
        check_reachable(url)
        for name in names:
            with contextlib.suppress(EntryNotFoundError):
                return Path(hf_hub_download(repo, name))
        raise OSError(f"{repo} holds none of {', '.join(names)}")


@contextlib.contextmanager
def download_errors(what: str, hint: str) -> Iterator[None]:
    """Turn whatever a download raises into DownloadError."""
    try:
        yield
    except Exception as error:  # hub clients raise what their HTTP library of the day raises
        raise DownloadError(f"the weights {what} are not here and cannot be downloaded: {error}", hint) from error


def check_reachable(url: str) -> None:
    """Fail at once without a network, where hub clients would retry for half a minute. Raises OSError."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    try:
        socket.getaddrinfo(urlparse(url).hostname, 443)
    except OSError as error:
        raise OSError(f"{urlparse(url).hostname} cannot be reached") from error


def _is_hex(text: str) -> bool:
    return len(text) >= 8 and all(c in "0123456789abcdef" for c in text)

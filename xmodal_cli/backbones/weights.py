"""Weights files: download, fingerprints, and reading without unpickling arbitrary objects."""

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

from xmodal_cli.backbones.hugging_face_names import FILES, download_hint
from xmodal_cli.errors import BadData, DownloadError, StorageError
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.paths import cache_dir, write_text

STATE_DICT_KEYS = ("state_dict", "model_state_dict", "model")  # of training checkpoints
MIN_CACHED_BYTES = 64_000_000  # smaller files are hashed in less than a tenth of a second


def cached_fingerprint(file: Path) -> str:
    """``sha256_of(file)``, cached for large files by path, size and modification time."""
    stat = file.stat()
    if stat.st_size < MIN_CACHED_BYTES:
        return sha256_of(file)
    key = hashlib.sha256(f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}".encode()).hexdigest()
    cache_file = cache_dir() / "fingerprints" / key[:32]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest = cache_file.read_text(encoding="utf-8")
        if len(digest) == 64 and _is_hex(digest):
            return digest
    digest = sha256_of(file)
    with contextlib.suppress(StorageError):  # without a writable cache the file is hashed again
        write_text(cache_file, digest)
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
        raise BadData(
            f"{file} does not contain the weights of a network", "give a state dict (.safetensors, .pth, .pt)"
        )
    return dict(tables)


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """The state dict of a training checkpoint, also if nested; a common prefix ``module.`` is removed.

    Raises BadData, also for files that contain pickled objects.
    """
    hint = "load it with the code it comes from, if you trust it, and save its state_dict() with torch.save"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript archives, which are rejected below
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, struct.error) as error:
        if isinstance(error, pickle.UnpicklingError) or "TorchScript" in str(error):
            reason = f"{file} contains objects or code besides weights; reading it would run that code"
            raise BadData(reason, hint) from error
        raise BadData(f"{file} is damaged or not a PyTorch checkpoint", "download it again") from error
    while isinstance(loaded, Mapping) and (inner := next((k for k in STATE_DICT_KEYS if k in loaded), None)):
        loaded = loaded[inner]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise BadData(f"{file} does not contain the weights of a network", hint)
    if all(name.startswith("module.") for name in loaded):
        return {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    return dict(loaded)


def load_weights(network: nn.Module, file: Path, allow_extra: bool = False) -> nn.Module:
    """Load all weights of ``network`` from ``file``. Raises BadData.

    ``allow_extra``: ignore other tensors of the file, such as a classifier.
    """
    weights = read_weights(file)
    if allow_extra:
        weights = {name: tensor for name, tensor in weights.items() if name in network.state_dict()}
    with weights_errors(file):
        network.load_state_dict(weights)
    return network


@contextlib.contextmanager
def weights_errors(file: Path) -> Iterator[None]:
    """Convert errors of loading weights to BadData."""
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
            "the file may be damaged or of another network; remove it or give the right one",
        ) from error


def torch_hub_file(url: str) -> Path:
    """The file of ``url`` in the torch hub cache, downloaded if missing. Raises DownloadError."""
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


def hugging_face_files(name: str, repo: str, setting: str) -> Path:
    """The folder of an encoder or language model in ``repo``, from the cache or the hub. Raises DownloadError.

    ``name`` is what the ``setting`` has.
    """
    hint = download_hint(repo, FILES, f"set {setting} to its path")
    files = [hugging_face_file(repo, (file,), name, hint=hint) for file in FILES]
    return files[0].parent


def hugging_face_file(repo: str, names: Sequence[str], what: str, remedy: str = "", hint: str = "") -> Path:
    """The first of ``names`` that exists in ``repo``, from the Hugging Face cache or hub. Raises DownloadError.

    ``what`` is the name of the backbone, or of anything else if ``remedy`` or the whole ``hint`` is given.
    """
    from huggingface_hub import hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in names:
        with contextlib.suppress(LocalEntryNotFoundError, FileNotFoundError):
            return Path(hf_hub_download(repo, name, local_files_only=True))
    url = hf_hub_url(repo, names[0])
    remedy = remedy or f"name the backbone {what}@FILE, or put the file into the Hugging Face cache"
    with download_errors(what, hint or f"download {url} and {remedy}"):
        check_reachable(url)
        for name in names:
            with contextlib.suppress(EntryNotFoundError):
                return Path(hf_hub_download(repo, name))
        raise OSError(f"{repo} has none of {', '.join(names)}")


@contextlib.contextmanager
def download_errors(what: str, hint: str) -> Iterator[None]:
    """Convert all errors of a download to DownloadError."""
    try:
        yield
    except Exception as error:  # hub clients raise the errors of their HTTP library
        raise DownloadError(f"the weights {what} are not cached and cannot be downloaded: {error}", hint) from error


def check_reachable(url: str) -> None:
    """Raise OSError if the host cannot be resolved; hub clients would retry for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    try:
        socket.getaddrinfo(urlparse(url).hostname, 443)
    except OSError as error:
        raise OSError(f"{urlparse(url).hostname} cannot be reached") from error


def _is_hex(text: str) -> bool:
    return len(text) >= 8 and all(c in "0123456789abcdef" for c in text)

"""The folders of xmodal on disk, and atomic writes: to a temporary file, flushed, then renamed.

``XMODAL_HOME`` overrides the user data folder of the platform. Independent of file formats.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

from xmodal_cli.errors import StorageError, XmodalError

MODEL_FILE = "model.safetensors"  # in the folder of a run


def home() -> Path:
    """The folder that holds ``data/ runs/ indexes/ models/ cache/ config.toml``."""
    override = os.environ.get("XMODAL_HOME")
    if override:
        return Path(override).expanduser()
    import platformdirs  # takes 10 ms, not needed for --help

    return Path(platformdirs.user_data_dir("xmodal", appauthor=False))


def absolute_path(path: Path) -> Path:
    """``path`` as an absolute path without ``..``; symbolic links are not resolved, ``~`` is not expanded."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would replace symbolic links


def numbered_names(name: str) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3`` and so on without end, to choose the first unused one from."""
    yield name
    yield from (f"{name}-{suffix}" for suffix in itertools.count(2))


def data_dir() -> Path:
    """Downloaded datasets, and ``registry.json`` with the registered names."""
    return home() / "data"


def runs_dir() -> Path:
    """Training runs, one folder per run."""
    return home() / "runs"


def indexes_dir() -> Path:
    """Indexes, one folder per index."""
    return home() / "indexes"


def models_dir() -> Path:
    """Downloaded and converted model files."""
    return home() / "models"


def config_file() -> Path:
    """The user's settings."""
    return home() / "config.toml"


def cache_dir() -> Path:
    """Files that can be recomputed: features."""
    return home() / "cache"


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``target`` to write to; on success it is flushed and replaces ``target``.

    On failure ``target`` is unchanged. Raises StorageError if the disk is full or the folder is not writable.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary.touch(exist_ok=False)
            mode = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            if stat.S_IMODE(temporary.stat().st_mode) != mode:
                temporary.chmod(mode)  # safetensors ignores the umask: its files are readable by their owner only
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):  # must not hide the original error
            temporary.unlink()


def write_text(target: Path, text: str) -> None:
    """Write a text file atomically. Raises StorageError."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file atomically. Raises StorageError."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Convert errors of the operating system on writing ``target`` to StorageError."""
    try:
        yield
    except Exception as error:
        code = _errno_of(error)
        if code in _DISK_FULL:
            raise StorageError(f"no space left on the disk to write {target}", _free_space_hint(target)) from error
        if code in _NOT_WRITABLE:
            raise StorageError(
                f"{target} cannot be written: {os.strerror(code)}",
                "choose another path, or set XMODAL_HOME to a writable folder",
            ) from error
        raise


def is_machine_failure(error: BaseException) -> bool:
    """Whether an error is due to the machine: its disk, memory, permissions or packages, not to a file or a model.

    Such errors must not be recorded as a property of the file or the model. Libraries that are not written in Python
    have the reason in the message only.
    """
    seen = set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if isinstance(current, OSError | MemoryError | ImportError | StorageError) or _MACHINE.search(str(current)):
            return True
        current = current.__cause__ or current.__context__
    return False


_MACHINE = re.compile(
    r"no space left|disk quota|out of memory|not enough memory|allocate memory|bad_?alloc|permission denied"
    r"|operation not permitted|read-only file system|input/output error|too many open files|\(os error \d+\)",
    re.IGNORECASE,
)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def _errno_of(error: Exception) -> int:
    """The errno of a failure, 0 if it has none; Rust libraries give it in the message only."""
    if isinstance(error, OSError):
        return error.errno or 0
    match = re.search(r"\(os error (\d+)\)", str(error))
    return int(match.group(1)) if match and not isinstance(error, XmodalError) else 0


def _free_space_hint(target: Path) -> str:
    existing = next((p for p in (target, *target.parents) if p.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    return f"{free / 1e6:,.0f} MB are free on it; delete files, or set XMODAL_HOME to a larger disk"

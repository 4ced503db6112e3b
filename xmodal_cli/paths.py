"""Where things live on disk, and how they are written: aside, flushed, then renamed into place.

``XMODAL_HOME`` overrides the platform's user data folder. Knows nothing of what the files hold.
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
    import platformdirs  # 10 ms that --help need not pay

    return Path(platformdirs.user_data_dir("xmodal", appauthor=False))


def absolute_path(path: Path) -> Path:
    """``path`` from the root, without ``..``; symbolic links are kept, and ``~`` is a letter."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would replace symbolic links


def numbered_names(name: str) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3`` ... without end, to choose the first that is free."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def data_dir() -> Path:
    """Downloaded datasets, and ``registry.json`` with the names of registered ones."""
    return home() / "data"


def runs_dir() -> Path:
    """One folder per training."""
    return home() / "runs"


def indexes_dir() -> Path:
    """One folder per index."""
    return home() / "indexes"


def models_dir() -> Path:
    """Model files that were downloaded or converted."""
    return home() / "models"


def config_file() -> Path:
    """The person's own settings."""
    return home() / "config.toml"


def cache_dir() -> Path:
    """What can be made again: features."""
    return home() / "cache"


@contextlib.contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; on success it is flushed and becomes ``target``.

    On any failure ``target`` is left as it was. Raises StorageError when the disk is full or the
    place cannot be written.
    """
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.touch(exist_ok=False)
            mode = stat.S_IMODE(draft.stat().st_mode)
            yield draft
            if stat.S_IMODE(draft.stat().st_mode) != mode:
                draft.chmod(mode)  # safetensors makes files that only their owner can read, whatever the umask
            with open(draft, "rb+") as file:
                os.fsync(file.fileno())
            draft.replace(target)
    finally:
        with contextlib.suppress(OSError):  # must not hide the error that brought us here
            draft.unlink()


def write_text(target: Path, text: str) -> None:
    """Write a whole text file in one atomic step."""
    with atomic_path(target) as draft:
        draft.write_text(text, encoding="utf-8")


def write_bytes(target: Path, content: bytes) -> None:
    """Write a whole file in one atomic step."""
    with atomic_path(target) as draft:
        draft.write_bytes(content)


@contextlib.contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write ``target`` into StorageError."""
    try:
        yield
    except Exception as error:
        number = _os_error(error)
        if number in _FULL:
            raise StorageError(f"no space left on the disk to write {target}", _free_space_hint(target)) from error
        if number in _REFUSED:
            raise StorageError(
                f"{target} cannot be written: {os.strerror(number)}",
                "choose another place, or set XMODAL_HOME to a folder you may write to",
            ) from error
        raise


_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def _os_error(error: Exception) -> int:
    """The operating system's number for a failure, 0 if there is none; libraries in Rust write it in their text."""
    if isinstance(error, OSError):
        return error.errno or 0
    written = re.search(r"\(os error (\d+)\)", str(error))
    return int(written.group(1)) if written and not isinstance(error, XmodalError) else 0


def _free_space_hint(target: Path) -> str:
    place = next((p for p in (target, *target.parents) if p.exists()), Path("/"))
    free = shutil.disk_usage(place).free
    return f"{free / 1e6:,.0f} MB are free there; make room, or set XMODAL_HOME to a larger disk"

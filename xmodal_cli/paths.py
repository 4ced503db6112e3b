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
from collections.abc import Iterator
from pathlib import Path

from xmodal_cli import drafts
from xmodal_cli.errors import ConfigError, StorageError, XmodalError
from xmodal_cli.file_identity import reason_not_regular

MODEL_FILE = "model.safetensors"  # in the folder of a run
CONFIG_FILE = "config.toml"  # the settings of a run
STATE_FILE = "state.safetensors"  # in the folder "last" of a run, which resumes from it


def home() -> Path:
    """The folder that holds ``data/ runs/ indexes/ models/ cache/ config.toml``."""
    override = os.environ.get("XMODAL_HOME")
    if override:
        return expand_home(override)
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
    """Yield a temporary file, in a draft next to ``target``, to write to; on success it replaces ``target``.

    It is flushed to disk before it is renamed, and its name afterwards. On failure ``target`` is unchanged. Raises
    StorageError if the disk is full or the folder is not writable.
    """
    make_folder(target.parent)
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(draft_file(target))
        with storage_errors(target):
            mode = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            if stat.S_IMODE(temporary.stat().st_mode) != mode:
                temporary.chmod(mode)  # safetensors ignores the umask: its files are readable by their owner only
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
            drafts.sync(target.parent)


@contextlib.contextmanager
def draft_file(target: Path) -> Iterator[Path]:
    """Create an empty file of the same name in a draft, which is deleted on exit. Raises StorageError."""
    check_not_special(target)
    with contextlib.ExitStack() as stack:
        with storage_errors(target, creating=True):
            file = stack.enter_context(drafts.draft_folder(target)) / target.name
            file.touch(exist_ok=False)
        yield file


def expand_home(path: str | os.PathLike[str]) -> Path:
    """``path`` with the home folder for ``~`` and ``~user`` at its start; as it is if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - that of pathlib raises RuntimeError


def given_path(path: str | os.PathLike[str]) -> Path:
    """A path from Python; ~ at the start of a str is the home folder, except ``~name`` without a user of this name.

    Raises ConfigError for an empty one, which is the current folder for ``Path``, one with a null character, and for
    what is not a path.
    """
    if path == "":
        raise ConfigError("a path is empty", "give a file or a folder; the current folder is .")
    if not isinstance(path, str | os.PathLike) or "\0" in os.fsdecode(path):
        raise ConfigError(f"{path!r} is not a path", "give a str or a pathlib.Path")
    return expand_home(path) if isinstance(path, str) else Path(path)


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder that can be accessed; ``Path.is_dir`` raises OSError for some that cannot."""
    return os.path.isdir(path)  # noqa: PTH112


def check_not_special(target: Path) -> None:
    """Raise StorageError if ``target`` is a named pipe, socket or device, which a file must not replace."""
    with contextlib.suppress(OSError, ValueError):
        mode = target.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise StorageError(f"{target} {reason_not_regular(target)}", _OTHER_PATH)


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, unless it exists. Raises StorageError."""
    with storage_errors(folder, creating=True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            file = next(path for path in (folder, *folder.parents) if os.path.lexists(path) and not path.is_dir())
            message = f"{folder} is not a folder" if file == folder else f"{folder}: {file} is not a folder"
            raise StorageError(message, _OTHER_PATH) from error


@contextlib.contextmanager
def new_folders(folder: Path) -> Iterator[None]:
    """Create ``folder`` and those above it; at the end, delete those of them that are empty. Raises StorageError."""
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
        yield
    finally:
        for path in created:
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()


def write_text(target: Path, text: str) -> None:
    """Write a text file atomically. Raises StorageError."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(target: Path, content: bytes) -> None:
    """Write a file atomically. Raises StorageError."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


@contextlib.contextmanager
def storage_errors(target: Path, creating: bool = False) -> Iterator[None]:
    """Convert errors of the operating system on writing ``target`` to StorageError.

    With ``creating``, a missing path is such an error: a file system as ``/proc``, or a drive that does not exist.
    """
    try:
        yield
    except Exception as error:
        code = _errno_of(error)
        if code in _DISK_FULL:
            raise StorageError(f"no space left on the disk to write {target}", _free_space_hint(target)) from error
        if code in _NOT_WRITABLE or (creating and code in _NOT_CREATED):
            raise StorageError(f"{target} cannot be written: {os.strerror(code)}", _OTHER_PATH) from error
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
_NOT_WRITABLE = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EFBIG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    errno.ENOTEMPTY,  # another process has created the folder
)
_NOT_CREATED = (errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENXIO)
_OTHER_PATH = "choose another path, or set XMODAL_HOME to a writable folder"


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

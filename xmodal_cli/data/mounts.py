"""The mount points of this machine, also bind mounts, which have the device number of the folder above them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(  # types of file systems that other machines can write to
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "lustre",
        "glusterfs",
        "gfs2",
        "ocfs2",
        "ncpfs",
        "davfs",
        "virtiofs",
        "vboxsf",
        "prl_fs",
        "drvfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.ceph",
        "fuse.davfs2",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.gvfsd-fuse",
    ]
)


def mount_points() -> frozenset[str]:
    """The paths of all mount points on Linux; empty on other systems."""
    return frozenset(_types_of_mounts())


def is_on_network(path: Path) -> bool:
    """Whether a file is on a network drive: by the type of its file system on Linux, by its path on Windows."""
    real = os.path.realpath(path)
    if real.startswith("\\\\"):
        return True
    types = _types_of_mounts()
    parents = (str(parent) for parent in (Path(real), *Path(real).parents))
    return next((types[parent] for parent in parents if parent in types), "") in _NETWORK


def _types_of_mounts() -> dict[str, str]:
    """The type of the file system at each mount point, by path."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        mount, _, source = line.partition(" - ")  # optional fields end with a dash
        if len(fields := mount.split(" ")) > 4:
            found[_unescape(fields[4])] = source.split(" ")[0]
    return found


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), path)

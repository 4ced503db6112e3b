"""Shows a picture with the program that the system has for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from xmodal_cli.errors import MissingData, Unavailable

PATIENCE = 0.5  # seconds in which a program says that it cannot


def show(path: Path) -> subprocess.Popen[bytes] | None:
    """Open ``path`` with the system's viewer, and go on. The process, where it is still busy.

    Raises MissingData for a file that is gone, Unavailable where there is no viewer or no screen.
    """
    if not path.exists():
        raise MissingData(f"{path} is not there any more", "`xmodal index` brings the index up to date")
    if sys.platform == "win32":
        os.startfile(path)
        return None
    nowhere = subprocess.DEVNULL
    command = [*_program(path), str(path)]
    try:  # a session of its own: Ctrl-C at the prompt is not for it
        viewer = subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
    except OSError as error:
        raise Unavailable(f"{command[0]} does not start: {error.strerror}", f"the photo is {path}") from error
    try:
        code = viewer.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        return viewer
    if code != 0:
        raise Unavailable(f"{command[0]} found no program that shows pictures", f"the photo is {path}")
    return None


def _program(path: Path) -> list[str]:
    """The command that opens files on this system."""
    if sys.platform == "darwin":
        return ["open"]
    if shutil.which("wslview"):
        return ["wslview"]
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise Unavailable("there is no screen here to show a photo on", f"the photo is {path}")
    if shutil.which("xdg-open"):
        return ["xdg-open"]
    if shutil.which("gio"):
        return ["gio", "open"]
    raise Unavailable("there is no program here that opens photos", f"install xdg-utils; the photo is {path}")

"""Opens a photo with the default viewer of the system, or its folder with the file manager."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from xmodal_cli.errors import MissingData, Unavailable

STARTUP_SECONDS = 0.5  # a viewer that cannot open the photo exits within this time


def open_photo(path: Path, hint: str = "it was moved or deleted") -> subprocess.Popen[bytes] | None:
    """Open ``path`` with the system's viewer without waiting; returns the process if it is still running.

    Raises MissingData with ``hint`` if the file does not exist, Unavailable if there is no viewer or no display.
    """
    if not path.exists():
        raise MissingData(f"{path} does not exist", hint)
    if sys.platform == "win32":
        os.startfile(path)
        return None
    return _start([*_viewer_command(path), str(path)], path)


def show_in_folder(path: Path) -> subprocess.Popen[bytes] | None:
    """Open the folder of ``path`` with the file manager of the system; raises the errors of ``open_photo``."""
    if sys.platform == "win32":
        return _start(["explorer", f"/select,{path}"], path, any_code=True)
    if sys.platform == "darwin":
        return _start(["open", "-R", str(path)], path)
    return open_photo(path.parent)


def _start(command: list[str], path: Path, any_code: bool = False) -> subprocess.Popen[bytes] | None:
    null = subprocess.DEVNULL
    try:  # in a new session, so that Ctrl-C at the prompt does not end it
        viewer = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be started: {error.strerror}", f"the photo is {path}") from error
    try:
        code = viewer.wait(STARTUP_SECONDS)
    except subprocess.TimeoutExpired:
        return viewer
    if code != 0 and not any_code:  # the explorer of Windows exits with 1
        raise Unavailable(f"{command[0]} could not open the photo", f"the photo is {path}")
    return None


def _viewer_command(path: Path) -> list[str]:
    """The command that opens files on this system."""
    if sys.platform == "darwin":
        return ["open"]
    if shutil.which("wslview"):
        return ["wslview"]
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise Unavailable("no display is available", f"the photo is {path}")
    if shutil.which("xdg-open"):
        return ["xdg-open"]
    if shutil.which("gio"):
        return ["gio", "open"]
    raise Unavailable("no image viewer was found", f"install xdg-utils; the photo is {path}")

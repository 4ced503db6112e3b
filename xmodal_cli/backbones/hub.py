"""Folders of the Hugging Face hub, and the transformers library kept silent."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from xmodal_cli.backbones.weights import check_reachable, download_errors

PARTS = ["*.json", "*.txt", "*.model", "*.safetensors"]  # neither pickles nor code


def hugging_face_folder(repo: str, what: str) -> Path:
    """The folder of the model ``repo``, from the Hugging Face cache or hub. Raises DownloadError.

    ``what`` is the name it was asked for by.
    """
    from huggingface_hub import hf_hub_url, snapshot_download

    with contextlib.suppress(Exception):  # not there, or only in part
        folder = Path(snapshot_download(repo, allow_patterns=PARTS, local_files_only=True))
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
    url = hf_hub_url(repo, "config.json").partition("/resolve/")[0]
    with download_errors(what, f"download the files of {url} into a folder and give that folder"):
        check_reachable(url)
        return Path(snapshot_download(repo, allow_patterns=PARTS))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers' own bars and reports are not for our users."""
    from transformers.utils import logging as theirs

    level = theirs.get_verbosity()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)

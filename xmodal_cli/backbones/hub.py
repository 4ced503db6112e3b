"""Model folders of the Hugging Face hub, and a context without output of the transformers library."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from xmodal_cli.backbones.hugging_face_names import CAPTIONER_FILES, download_hint
from xmodal_cli.backbones.weights import check_reachable, download_errors

FILE_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]  # neither pickles nor code


def hugging_face_folder(repo: str, what: str) -> Path:
    """The folder of the model ``repo``, from the Hugging Face cache or hub. Raises DownloadError.

    ``what`` is the requested name, for error messages.
    """
    from huggingface_hub import snapshot_download

    with contextlib.suppress(Exception):  # not cached, or only partly
        folder = Path(snapshot_download(repo, allow_patterns=FILE_PATTERNS, local_files_only=True))
        if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
            return folder
    with download_errors(what, download_hint(repo, CAPTIONER_FILES, "give it with --model FOLDER")):
        check_reachable("https://huggingface.co")
        return Path(snapshot_download(repo, allow_patterns=FILE_PATTERNS))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Disable the progress bars and log messages of transformers."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)

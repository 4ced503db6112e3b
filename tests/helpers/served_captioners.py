"""Captioners for the tests of the server: the bundled one under another name, and damaged ones."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from xmodal_cli import json_checksum, starter
from xmodal_cli.models.model_file import KEY
from xmodal_cli.paths import MODEL_FILE, models_dir, runs_dir


def write_captioners() -> None:
    """In ``XMODAL_HOME``: the run ``my-run``, the files ``damaged`` and ``no-model``, and the matcher ``other``."""
    captioner, matcher = starter.file_of(starter.CAPTIONER), starter.file_of(starter.MATCHER)
    assert captioner is not None and matcher is not None
    for folder in (models_dir(), runs_dir() / "my-run"):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(captioner, runs_dir() / "my-run" / MODEL_FILE)
    shutil.copy(matcher, models_dir() / "other.safetensors")
    (models_dir() / "damaged.safetensors").write_bytes(with_other_fingerprint(captioner))
    (models_dir() / "no-model.safetensors").write_text("no model")


def with_other_fingerprint(file: Path) -> bytes:
    """A model file whose weights are not those that its header describes."""
    content = file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    fields = json_checksum.parse(header["__metadata__"][KEY])
    header["__metadata__"][KEY] = json_checksum.to_text({**fields, "fingerprint": "0" * 64})
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]

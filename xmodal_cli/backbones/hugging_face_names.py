"""Names of Hugging Face models: ``hf/NAME`` on the hub, or a folder with a ``config.json``. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

PREFIX = "hf/"
CONFIG = "config.json"
FILES = (CONFIG, "tokenizer.json", "model.safetensors")  # that an encoder or a language model needs


def is_hugging_face_name(name: str) -> bool:
    """Whether ``name`` is one of the hub, or a folder as the transformers library saves models."""
    return name.startswith(PREFIX) or (bool(name) and (Path(name).expanduser() / CONFIG).is_file())

"""Names of Hugging Face models: ``hf/NAME`` on the hub, or a folder with a ``config.json``. No heavy imports."""

from __future__ import annotations

from pathlib import Path

PREFIX = "hf/"
CONFIG = "config.json"
FILES = (CONFIG, "tokenizer.json", "model.safetensors")  # required files of an encoder or language model


def is_hugging_face_name(name: str) -> bool:
    """Whether ``name`` is a hub name or a model folder of the transformers library."""
    return name.startswith(PREFIX) or (bool(name) and (Path(name).expanduser() / CONFIG).is_file())

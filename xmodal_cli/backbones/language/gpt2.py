"""GPT-2 models of the Hugging Face hub, as ``gpt2`` or ``hf/NAME``, or a model folder.

Required files: ``config.json``, ``tokenizer.json`` and ``model.safetensors``.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.backbones.hugging_face_names import FILES, PREFIX, is_hugging_face_name
from xmodal_cli.types import LanguageModel

NAMES = {"gpt2": "openai-community/gpt2", "gpt2-medium": "openai-community/gpt2-medium"}


def known() -> list[str]:
    """The names and patterns of this family."""
    return [*NAMES, "hf/NAME", "FOLDER"]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name in NAMES or is_hugging_face_name(name)


def build(name: str) -> LanguageModel:
    """The model from a folder, the cache, or the hub. Raises DownloadError, MissingData, BadData."""
    from xmodal_cli.backbones.language._gpt2_folder import load_folder
    from xmodal_cli.backbones.weights import hugging_face_file

    if name not in NAMES and not name.startswith(PREFIX):
        folder = Path(name).expanduser().resolve()
        return load_folder(str(folder), folder)
    repo = NAMES.get(name, name.removeprefix(PREFIX))
    remedy = "put it into a folder with config.json, tokenizer.json and model.safetensors, "
    remedy += "and set captioning.language_model to that folder"
    files = [hugging_face_file(repo, (file,), name, remedy) for file in FILES]
    return load_folder(name, files[0].parent)

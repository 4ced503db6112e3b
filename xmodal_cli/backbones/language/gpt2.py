"""GPT-2 of the Hugging Face hub, by its name there or as ``hf/NAME``; or the folder of one.

Three files are needed: ``config.json``, ``tokenizer.json`` and ``model.safetensors``.
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
    """The model of a folder, of the cache, or of the hub. Raises DownloadError, MissingData, BadData."""
    from xmodal_cli.backbones.language._gpt2_folder import load_folder
    from xmodal_cli.backbones.weights import hugging_face_file

    if name not in NAMES and not name.startswith(PREFIX):
        folder = Path(name).expanduser().resolve()
        return load_folder(str(folder), folder)
    repo = NAMES.get(name, name.removeprefix(PREFIX))
    remedy = "put it into a folder with the files beside it (config.json, tokenizer.json, model.safetensors), "
    remedy += "and give that folder as captioning.language_model"
    files = [hugging_face_file(repo, (file,), name, remedy) for file in FILES]
    return load_folder(name, files[0].parent)

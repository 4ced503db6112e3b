"""GPT-2 models of the Hugging Face hub, as ``gpt2`` or ``hf/NAME``, or a model folder.

Required files: ``config.json``, ``tokenizer.json`` and ``model.safetensors``.
"""

from __future__ import annotations

from xmodal_cli.backbones.hugging_face_names import PREFIX, is_hugging_face_name, repo_of
from xmodal_cli.paths import expand_home
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
    from xmodal_cli.backbones.weights import hugging_face_files

    if name not in NAMES and not name.startswith(PREFIX):
        folder = expand_home(name).resolve()
        return load_folder(str(folder), folder)
    repo = NAMES.get(name) or repo_of(name)
    return load_folder(name, hugging_face_files(name, repo, "captioning.language_model"))

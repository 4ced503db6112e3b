"""Precomputed regions of bottom-up attention or another external detector: ``bottom-up@PATH``.

Anderson et al. 2018. There is no network, so new images cannot be encoded; ``features.importing`` converts the files at
PATH to a feature store.
"""

from __future__ import annotations

from pathlib import Path

from xmodal_cli.errors import IncompatibleFeatures
from xmodal_cli.types import ImageBackbone

NAME = "bottom-up"
KINDS = ("regions",)
FROM_FILES = True


def known() -> list[str]:
    """The pattern of the one name of this family."""
    return [f"{NAME}@PATH"]


def supports(name: str) -> bool:
    """Whether ``name`` belongs to this family."""
    return name.partition("@")[0] == NAME


def build(name: str, kind: str, crops: int, weights: Path | None) -> ImageBackbone:
    """Raises IncompatibleFeatures: there is no detector."""
    raise IncompatibleFeatures(
        f"{NAME} regions are read from files and cannot be computed for new images",
        "use a detector for new images: --backbone faster-rcnn-resnet50 --kind regions",
    )

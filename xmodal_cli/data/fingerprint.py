"""A hash that identifies a dataset by its image ids, captions and splits."""

from __future__ import annotations

import hashlib

from xmodal_cli.types import ImageTextDataset


def fingerprint(dataset: ImageTextDataset) -> str:
    """sha256 of the ids, captions and splits, in order; pixels and paths are not part of it."""
    digest = hashlib.sha256()
    for example in dataset.examples:
        fields = (example.image_id, example.split, *example.captions)
        digest.update("\x1f".join(fields).encode(errors="surrogatepass") + b"\x1e")
    return digest.hexdigest()

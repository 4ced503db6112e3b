"""Names of splits; ``dev``, ``valid`` and ``validation`` are other names of ``val``."""

from __future__ import annotations

import re

# name of a split, or word in the name of a file or folder -> split
SPLITS = {
    "train": "train",
    "restval": "restval",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}


def canonical_split(name: str) -> str:
    """``val`` for ``dev``, ``valid`` and ``validation``, in any case; a name that is not listed is unchanged."""
    return SPLITS.get(name.strip().lower(), name)


def split_in_name(name: str) -> str | None:
    """The split of the first word in a file or folder name that is one (``f8k-dev-000``, ``val2014``), else None."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)

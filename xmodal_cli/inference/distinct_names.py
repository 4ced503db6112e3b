"""Names of the models and files of one evaluation that are different where the models are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xmodal_cli.inference.models import ModelInfo
from xmodal_cli.paths import MODEL_FILE


def distinct_names(items: Sequence[str | ModelInfo]) -> list[str]:
    """File names and names of models; with parent folders, as few as needed, where different ones have equal names.

    ``a/results.json`` and ``b/results.json`` are called so, and one of them alone ``results.json``.
    """
    paths = [_path(item) for item in items]
    names = [_short_name(item) for item in items]
    for name, count in Counter(names).items():
        same = [n for n, other in enumerate(names) if other == name]
        if count > 1 and len({paths[n] for n in same}) > 1:
            for n, tail in zip(same, _distinct_tails([paths[n] for n in same]), strict=True):
                names[n] = tail
    return names


def with_distinct_names(items: Sequence[str | ModelInfo]) -> list[str | ModelInfo]:
    """``items``, in which different models with equal names are renamed as by ``distinct_names``."""
    names = distinct_names(items)
    return [
        replace(item, name=name) if isinstance(item, ModelInfo) else item
        for item, name in zip(items, names, strict=True)
    ]


def _short_name(item: str | ModelInfo) -> str:
    """The name of a model or file; names as ``open_clip/ARCH/TAG`` are unchanged."""
    if isinstance(item, ModelInfo):
        return item.name
    return Path(item).name if Path(item).is_file() else item


def _path(item: str | ModelInfo) -> Path:
    """The file, or the folder of a run."""
    path = item.path if isinstance(item, ModelInfo) else Path(item)
    return (path.parent if path.name == MODEL_FILE else path).absolute()


def _distinct_tails(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as few as possible so that different paths have different ones."""
    depth, different = 1, len(set(paths))
    while len({path.parts[-depth:] for path in paths}) < different:
        depth += 1
    return ["/".join(path.parts[-depth:]) for path in paths]

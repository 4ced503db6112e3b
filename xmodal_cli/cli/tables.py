"""The retrieval table of the papers: one row per model, image-to-text on the left, text-to-image on the right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xmodal_cli.cli import output

SIDES = ("image_to_text", "text_to_image")
FIGURES = ("R@1", "R@5", "R@10", "median_rank", "mean_rank")
SHORT = {"median_rank": "MedR", "mean_rank": "MeanR"}


def print_retrieval(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the figures of several models, by name; ``i2t`` is image-to-text, ``t2i`` text-to-image."""
    columns = ["model"] + [f"{side} {SHORT.get(name, name)}" for side in ("i2t", "t2i") for name in FIGURES] + ["rsum"]
    rows = [[name, *_cells(result)] for name, result in results.items()]
    output.print_table(title, columns, rows)


def nest(flat: Mapping[str, float]) -> dict[str, Any]:
    """``image_to_text R@1`` and its like, back in one table per direction."""
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        side, space, figure = name.partition(" ")
        if space and side in SIDES:
            nested.setdefault(side, {})[figure] = value
        else:
            nested[name] = value
    return nested


def _cells(result: Mapping[str, Any]) -> list[str]:
    cells = [_shown(name, result[side][name]) for side in SIDES for name in FIGURES]
    return [*cells, f"{result['rsum']:.1f}"]


def _shown(name: str, value: float) -> str:
    return f"{value:.0f}" if name == "median_rank" and value == int(value) else f"{value:.1f}"

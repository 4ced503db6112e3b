"""The tables of the papers, one row per model: retrieval, image-to-text and text-to-image, and captioning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xmodal_cli.cli import output

SIDES = ("image_to_text", "text_to_image")
FURTHER = ("NDCG@25",)  # only where asked for


def print_retrieval(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the figures of several models, by name; ``i2t`` is image-to-text, ``t2i`` text-to-image.

    NDCG has its columns where it was computed; a confidence interval is a row below, as half of its width.
    """
    columns = [*_retrieval_columns(), *(_Column(name, name, "{:.3f}".format) for name in FURTHER)]
    some = [side for result in results.values() for side in (result[name] for name in SIDES)]
    columns = [column for column in columns if any(column.name in side for side in some)]
    heads = [f"{side} {column.label}" for side in ("i2t", "t2i") for column in columns]
    rows = []
    for label, result in results.items():
        rows.append([label, *_cells(result, columns)])
        if "confidence" in result:
            rows.append(["  95%", *_halves(result["confidence"], columns)])
    output.print_table(title, ["model", *heads, "rsum"], rows)


def print_captions(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the figures of several captioners or files, by name, as the papers do: times 100, but for CIDEr.

    Below stand the signature, where there is one, and for a figure that could not be had the reason.
    """
    columns = _caption_columns()
    shown = [column for column in columns if any(column.name in result for result in results.values())]
    rows = [[label, *(column.cell(result.get(column.name)) for column in shown)] for label, result in results.items()]
    output.print_table(title, ["model", *(column.label for column in shown)], rows)
    for line in dict.fromkeys(str(result["signature"]) for result in results.values() if "signature" in result):
        output.print_line(line)
    missing = {name: why for result in results.values() for name, why in result.get("unavailable", {}).items()}
    labels = {column.name: column.label for column in columns}
    for name, why in missing.items():
        if name in labels:
            output.print_line(f"{labels[name]}: {why}")


def print_val(title: str, name: str, figures: Mapping[str, Any]) -> None:
    """Print what a training reached on val, whatever it trained."""
    (print_captions if "cider" in figures else print_retrieval)(title, {name: figures})


@dataclass(frozen=True)
class _Column:
    """A score's name in the JSON, its head in the table, and how a value is printed."""

    name: str
    label: str
    shown: Callable[[float], str]

    def cell(self, value: float | None) -> str | None:
        return None if value is None else self.shown(value)


def _retrieval_columns() -> list[_Column]:
    from xmodal_cli.metrics.retrieval_scores import retrieval_scores

    return [_Column(score.name, score.label, score.format) for score in retrieval_scores()]


def _caption_columns() -> list[_Column]:
    from xmodal_cli.metrics.caption_columns import sorted_columns

    return [_Column(name, label, metric.format) for metric in sorted_columns() for name, label in metric.labels.items()]


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


def _cells(result: Mapping[str, Any], columns: Sequence[_Column]) -> list[str | None]:
    cells = [column.cell(result[side].get(column.name)) for side in SIDES for column in columns]
    return [*cells, f"{result['rsum']:.1f}"]


def _halves(confidence: Mapping[str, Any], columns: Sequence[_Column]) -> list[str | None]:
    """Half the width of every interval; ``--json`` has its ends."""
    pairs = [(column, confidence[side].get(column.name)) for side in SIDES for column in columns]
    cells = [None if ends is None else f"±{column.shown((ends[1] - ends[0]) / 2)}" for column, ends in pairs]
    low, high = confidence["rsum"]
    return [*cells, f"±{(high - low) / 2:.1f}"]

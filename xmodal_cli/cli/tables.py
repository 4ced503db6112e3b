"""Result tables with one row per model: retrieval (image-to-text and text-to-image), captioning and tagging."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xmodal_cli.cli import output

DIRECTIONS = ("image_to_text", "text_to_image")
OPTIONAL_SCORES = ("NDCG@25",)  # computed only on request


def print_retrieval(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the metrics of several models, their JSON by name; ``i2t`` is image-to-text, ``t2i`` text-to-image.

    NDCG has columns if it was computed. A confidence interval is printed as its half-width in a row below.
    """
    sides = [result[name] for result in results.values() for name in DIRECTIONS]
    columns = [*_retrieval_columns(sides), *(_Column(name, name, "{:.3f}".format) for name in OPTIONAL_SCORES)]
    columns = [column for column in columns if any(column.name in side for side in sides)]
    heads = [f"{side} {column.label}" for side in ("i2t", "t2i") for column in columns]
    rows = []
    for label, result in results.items():
        rows.append([label, *_cells(result, columns)])
        if "confidence" in result:
            rows.append(["  95%", *_half_widths(result["confidence"], columns)])
    output.print_table(title, ["model", *heads, "rsum"], rows)


def print_captions(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the scores of several captioners or files, their JSON by name, times 100 except CIDEr.

    The signature, if any, and the reasons for unavailable metrics are printed below the table.
    """
    columns = _caption_columns()
    present = [column for column in columns if any(column.name in result for result in results.values())]
    rows = [[label, *(column.cell(result.get(column.name)) for column in present)] for label, result in results.items()]
    output.print_table(title, ["model", *(column.label for column in present)], rows)
    for line in dict.fromkeys(str(result["signature"]) for result in results.values() if "signature" in result):
        output.print_line(line)
    reasons = {name: reason for result in results.values() for name, reason in result.get("unavailable", {}).items()}
    labels = {column.name: column.label for column in columns}
    for name, reason in reasons.items():
        if name in labels:
            output.print_line(f"{labels[name]}: {reason}")


def print_tags(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the scores of several taggers, by name, times 100."""
    columns = [_Column("map", "mAP", _percent)]
    for key, label in (("precision_at_", "P@"), ("recall_at_", "R@")):
        names = [name for name in next(iter(results.values())) if name.startswith(key)]
        columns += [_Column(name, f"{label}{name.removeprefix(key)}", _percent) for name in names]
    rows = [[label, *(column.cell(result.get(column.name)) for column in columns)] for label, result in results.items()]
    output.print_table(title, ["model", *(column.label for column in columns)], rows)


def print_val_metrics(title: str, name: str, metrics: Mapping[str, float]) -> None:
    """Print the val metrics of a matcher, a captioner or a tagger, given by their flat names."""
    from xmodal_cli.evaluation.scoring import nest

    show = print_captions if "cider" in metrics else print_tags if "map" in metrics else print_retrieval
    show(title, {name: nest(metrics)})


@dataclass(frozen=True)
class _Column:
    """A column: the name of its score in the JSON, its header, and the format of a value."""

    name: str
    label: str
    format: Callable[[float], str]

    def cell(self, value: float | None) -> str | None:
        return None if value is None else self.format(value)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _retrieval_columns(sides: Sequence[Mapping[str, Any]]) -> list[_Column]:
    """The columns of all scores, with R@K for the cut-offs in the results."""
    from xmodal_cli.metrics.retrieval_scores import retrieval_scores

    cut_offs = {int(name[2:]) for side in sides for name in side if name.startswith("R@") and name[2:].isdigit()}
    return [_Column(score.name, score.label, score.format) for score in retrieval_scores(sorted(cut_offs))]


def _caption_columns() -> list[_Column]:
    from xmodal_cli.metrics.caption_columns import sorted_columns

    return [_Column(name, label, metric.format) for metric in sorted_columns() for name, label in metric.labels.items()]


def _cells(result: Mapping[str, Any], columns: Sequence[_Column]) -> list[str | None]:
    cells = [column.cell(result[side].get(column.name)) for side in DIRECTIONS for column in columns]
    return [*cells, f"{result['rsum']:.1f}"]


def _half_widths(confidence: Mapping[str, Any], columns: Sequence[_Column]) -> list[str | None]:
    """Half the width of every interval; ``--json`` has both ends."""
    pairs = [(column, confidence[side].get(column.name)) for side in DIRECTIONS for column in columns]
    cells = [None if ends is None else f"±{column.format((ends[1] - ends[0]) / 2)}" for column, ends in pairs]
    low, high = confidence["rsum"]
    return [*cells, f"±{(high - low) / 2:.1f}"]

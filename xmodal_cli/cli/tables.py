"""The tables of the papers, one row per model: retrieval, image-to-text and text-to-image, and captioning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xmodal_cli.cli import output

SIDES = ("image_to_text", "text_to_image")
FIGURES = ("R@1", "R@5", "R@10", "median_rank", "mean_rank")
FURTHER = ("NDCG@25",)  # only where asked for
CAPTIONS = {
    **{f"bleu_{n}": f"BLEU-{n}" for n in range(1, 5)},
    **{"meteor": "METEOR", "rouge_l": "ROUGE-L", "cider": "CIDEr", "spice": "SPICE"},
}
SHORT = {"median_rank": "MedR", "mean_rank": "MeanR"}


def print_retrieval(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the figures of several models, by name; ``i2t`` is image-to-text, ``t2i`` text-to-image.

    NDCG has its columns where it was computed; a confidence interval is a row below, as half of its width.
    """
    names = [
        *FIGURES,
        *(name for name in FURTHER if any(name in result[side] for result in results.values() for side in SIDES)),
    ]
    columns = ["model"] + [f"{side} {SHORT.get(name, name)}" for side in ("i2t", "t2i") for name in names] + ["rsum"]
    rows = []
    for label, result in results.items():
        rows.append([label, *_cells(result, names)])
        if "confidence" in result:
            rows.append(["  95%", *_halves(result["confidence"], names)])
    output.print_table(title, columns, rows)


def print_captions(title: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the figures of several captioners or files, by name, as the papers do: times 100, but for CIDEr.

    Below stand the signature, where there is one, and for a figure that could not be had the reason.
    """
    shown = [name for name in CAPTIONS if any(name in result for result in results.values())]
    rows = [[label, *(_caption_figure(name, result.get(name)) for name in shown)] for label, result in results.items()]
    output.print_table(title, ["model", *(CAPTIONS[name] for name in shown)], rows)
    for line in dict.fromkeys(str(result["signature"]) for result in results.values() if "signature" in result):
        output.print_line(line)
    missing = {name: why for result in results.values() for name, why in result.get("unavailable", {}).items()}
    for name, why in missing.items():
        if name in CAPTIONS:
            output.print_line(f"{CAPTIONS[name]}: {why}")


def print_val(title: str, name: str, figures: Mapping[str, Any]) -> None:
    """Print what a training reached on val, whatever it trained."""
    (print_captions if "cider" in figures else print_retrieval)(title, {name: figures})


def _caption_figure(name: str, value: float | None) -> str | None:
    if value is None:
        return None
    return f"{value:.3f}" if name == "cider" else f"{100 * value:.1f}"


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


def _cells(result: Mapping[str, Any], names: Sequence[str]) -> list[str | None]:
    cells = [_shown(name, result[side].get(name)) for side in SIDES for name in names]
    return [*cells, f"{result['rsum']:.1f}"]


def _halves(confidence: Mapping[str, Any], names: Sequence[str]) -> list[str | None]:
    """Half the width of every interval; ``--json`` has its ends."""
    ends = [confidence[side].get(name) for side in SIDES for name in names]
    named = zip([*names, *names, "rsum"], [*ends, confidence["rsum"]], strict=True)
    return [None if pair is None else f"±{_number(name, (pair[1] - pair[0]) / 2)}" for name, pair in named]


def _shown(name: str, value: float | None) -> str | None:
    return None if value is None else _number(name, value)


def _number(name: str, value: float) -> str:
    if name in FURTHER:
        return f"{value:.3f}"
    return f"{value:.0f}" if name == "median_rank" and value == int(value) else f"{value:.1f}"

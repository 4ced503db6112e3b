"""``xmodal features``: a backbone's features of a dataset, or a matcher's vectors."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodal_cli.cli import output
from xmodal_cli.cli.options import Device, Format, Json, Precision, PrecisionOption

if TYPE_CHECKING:
    from xmodal_cli.recipes.features import FeaturesReport

_LISTED = 10  # unreadable pictures named on a terminal; --json names all


class Kind(StrEnum):
    """What a picture becomes: one vector, one per cell of a grid, or one per region with its box."""

    global_ = "global"
    grid = "grid"
    regions = "regions"


def command(
    data: Annotated[
        str | None,
        typer.Argument(metavar="DATA", help="A registered name (f8k, shapes) or a path in any known format."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone", metavar="B", help="For example efficientnet-lite2 (the default), vgg19, faster-rcnn-resnet50."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="Write a trained matcher's vectors instead.")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="With --model: sentences, one a line, instead of DATA."),
    ] = None,
    kind: Annotated[
        Kind, typer.Option("--kind", help="One vector a picture, one per grid cell, or one per region.")
    ] = Kind.global_,
    crops: Annotated[
        int, typer.Option("--crops", metavar="1|2|10", help="Views to average: 2 with the mirror image, 10 cuts.")
    ] = 1,
    split: Annotated[str | None, typer.Option("--split", metavar="S", help="Only this split.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="PATH", help="Folder, or with --model .safetensors or .npz file.")
    ] = None,
    format: Format = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Pictures at once; the default suits the device.")
    ] = None,
    json: Json = False,
) -> None:
    """Extract features of a dataset's pictures, or write a trained matcher's vectors.

    Goes on where it was interrupted; a second run has nothing to do. Pictures that cannot be read are
    left out, counted and listed. Without --out features go to the cache, where train and eval look.

    Examples:

        xmodal features f8k --backbone vgg19 --crops 10

        xmodal features f8k --kind grid --split test --out f8k-grid

        xmodal features f8k --kind regions --backbone faster-rcnn-resnet50

        xmodal features f30k --kind regions --backbone bottom-up@trainval_36.tsv

        xmodal features f8k --model order-emb-f8k --split test --out vectors.npz

        xmodal features --model order-emb-f8k --text sentences.txt --out sentences.npz
    """
    from xmodal_cli.config import FeaturesConfig
    from xmodal_cli.data.selection import load_split
    from xmodal_cli.device import Compute
    from xmodal_cli.recipes.features import extract_features
    from xmodal_cli.recipes.vectors import dataset_vectors, sentence_vectors

    _check(data, backbone, model, text)
    compute, reporter = Compute(device, precision.value), output.TerminalReporter()
    if not model:
        settings = FeaturesConfig(backbone or FeaturesConfig.backbone, kind.value, crops)
        report = extract_features(load_split(str(data), split, format), settings, out, compute, reporter, batch_size)
        if json:
            output.print_json(asdict(report))
        else:
            _show(report)
        return
    if text:
        result = sentence_vectors(model, text, out, compute)
    else:
        result = dataset_vectors(model, load_split(str(data), split, format), out, compute, reporter)
    if json:
        output.print_json(result)
    else:
        _show_vectors(result)


def _check(data: str | None, backbone: str | None, model: str | None, text: Path | None) -> None:
    """Raise a usage error for options that contradict each other."""
    if text is not None and model is None:
        raise typer.BadParameter("sentences need a matcher: add --model M", param_hint="--text")
    if model is not None and backbone is not None:
        raise typer.BadParameter("a matcher brings its own backbone: give one of --model and --backbone")
    if (data is None) == (text is None):
        raise typer.BadParameter("give a dataset, or with --model a file of sentences (--text FILE), and not both")


def _show_vectors(result: dict[str, Any]) -> None:
    counted = ", ".join(f"{result[what]} {what}" for what in ("images", "captions", "sentences") if what in result)
    output.print_line(f"{counted}, {result['dim']} numbers each: {result['file']}")


def _show(report: FeaturesReport) -> None:
    shape = " x ".join(str(side) for side in report.shape)
    output.print_line(
        f"{report.images} images, {shape} numbers each, by {report.backbone} "
        f"({report.extracted} extracted in {report.seconds:.1f} s)"
    )
    for folder in report.folders:
        output.print_line(f"  {folder}")
    for entry in report.skipped[:_LISTED]:
        output.print_line(f"left out: {entry.error}")
    if len(report.skipped) > _LISTED:
        output.print_line(f"and {len(report.skipped) - _LISTED} more; --json lists them all")

"""``xmodal features``: a backbone's features of a dataset, or a matcher's vectors."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from xmodal_cli.cli import output
from xmodal_cli.cli.options import Device, Format, Json, Precision, PrecisionOption

_LISTED = 10  # unreadable pictures named on a terminal; --json names all


class Kind(StrEnum):
    """What a picture becomes: one vector, or one per cell of a grid."""

    global_ = "global"
    grid = "grid"
    regions = "regions"


def features(
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="A registered name (f8k, shapes) or a path in any known format.")
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="B", help="For example efficientnet-lite2 (the default), vgg19, resnet101."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="Write a trained matcher's vectors instead.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option("--text", metavar="FILE", help="With --model: sentences, one a line, instead of DATA.")
    ] = None,
    kind: Annotated[Kind, typer.Option("--kind", help="One vector a picture, or one per grid cell.")] = Kind.global_,
    crops: Annotated[int, typer.Option("--crops", metavar="1|10", help="10 averages ten crops of each picture.")] = 1,
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

        xmodal features f8k --model order-emb-f8k --split test --out vectors.npz

        xmodal features --model order-emb-f8k --text sentences.txt --out sentences.npz
    """
    from xmodal_cli.recipes.features import Computing

    computing = Computing(device, precision.value, batch_size, output.TerminalReporter())
    if model is None:
        result = _extract(data, text, split, format, (backbone, kind.value, crops), out, computing)
    else:
        result = _vectors(data, text, split, format, (model, backbone), out, computing)
    if json:
        output.print_json(result)
    else:
        _show(result)

"""``xmodal features``: extract image features of a dataset, or write the embeddings of a matcher."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import output
from xmodal_cli.cli.options import (
    COMPUTATION,
    Address,
    Device,
    Engine,
    EngineName,
    Format,
    Json,
    Precision,
    PrecisionOption,
    Strict,
    canonical,
)

if TYPE_CHECKING:
    from xmodal_cli.recipes.features import FeaturesReport
    from xmodal_cli.recipes.vectors import DatasetVectors, SentenceVectors


class Kind(StrEnum):
    """Features per image: one vector, one per grid cell, or one per region with its box."""

    global_ = "global"
    grid = "grid"
    regions = "regions"


def command(
    data: Annotated[
        str | None,
        typer.Argument(metavar="[DATA]", help="Dataset name (f8k, shapes) or path."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            "--backbone",
            metavar="B",
            help="Image backbone, such as efficientnet-lite2 (default), vgg19 or faster-rcnn-resnet50.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="Write the embeddings of this matcher instead.")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            "--text", metavar="FILE", help="With --model: text file with one sentence per line, instead of DATA."
        ),
    ] = None,
    kind: Annotated[
        Kind, typer.Option("--kind", help="Features per image: one vector, one per grid cell or one per region.")
    ] = Kind.global_,
    crops: Annotated[
        int,
        typer.Option(
            "--crops", metavar="1|2|10", help="Views per image: 1, 2 (with horizontal flip) or 10 (ten-crop)."
        ),
    ] = 1,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="S", callback=canonical, help="Split to use (default: all)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PATH", help="Output folder; with --model, a .safetensors or .npz file."),
    ] = None,
    format: Format = None,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            rich_help_panel=COMPUTATION,
            metavar="N",
            min=1,
            help="Batch size (default: depends on the device).",
        ),
    ] = None,
    engine: Engine = EngineName.local,
    address: Address = "",
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Extract image features of a dataset, or write the embeddings of a matcher.

    An interrupted extraction resumes where it stopped. Unreadable images are skipped and listed. Without --out,
    features are written to the cache that train and eval read.

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
    of_backbone = {"--kind": kind is not Kind.global_, "--crops": crops != 1, "--batch-size": batch_size is not None}
    of_backbone["--engine"] = engine is not EngineName.local
    _reject(of_backbone if model else {}, "not allowed with --model: a matcher has its own image features")
    _reject({"--split": split, "--format": format} if text else {}, "not allowed with --text, which is not a dataset")
    compute = Compute(device, precision.value, engine=engine.value, address=address)
    reporter = output.TerminalReporter()
    if not model:
        settings = FeaturesConfig(backbone or FeaturesConfig.backbone, kind.value, crops)
        report = extract_features(load_split(str(data), split, format), settings, out, compute, reporter, batch_size)
        if json:
            output.print_json(report)
        else:
            _show(report)
        return
    written: DatasetVectors | SentenceVectors
    if text:
        written = sentence_vectors(model, text, out, compute)
        counts = f"{written.sentences} sentences"
    else:
        written = dataset_vectors(model, load_split(str(data), split, format), out, compute, reporter)
        counts = f"{written.images} images, {written.captions} captions"
    if json:
        output.print_json(written)
    else:
        output.print_line(f"{counts}, {written.dim}-d: {written.file}")


def _check(data: str | None, backbone: str | None, model: str | None, text: Path | None) -> None:
    """Raise a usage error for options that contradict each other."""
    if text is not None and model is None:
        raise typer.BadParameter("requires --model M, the matcher that encodes the sentences", param_hint="--text")
    if model is not None and backbone is not None:
        raise typer.BadParameter("--model and --backbone cannot be combined: a matcher has its own backbone")
    if (data is None) == (text is None):
        raise typer.BadParameter("give either DATA or, with --model, --text FILE")


def _reject(given: Mapping[str, object], reason: str) -> None:
    """Raise a usage error for the first option that is given."""
    for option, value in given.items():
        if value:
            raise typer.BadParameter(reason, param_hint=option)


def _show(report: FeaturesReport) -> None:
    from xmodal_cli.data import left_out

    shape = " x ".join(str(side) for side in report.shape)
    output.print_line(
        f"{report.images} images, {shape}-d, {report.backbone} ({report.extracted} extracted in {report.seconds:.1f} s)"
    )
    for folder in report.folders:
        output.print_line(f"  {folder}")
    for line in [*left_out.to_lines(report.left_out), *left_out.to_lines(report.defects, left_out.DEFECTS)]:
        output.print_line(output.escape_unprintable(line))

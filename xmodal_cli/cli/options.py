"""Options that several commands share, with the same help text everywhere."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from xmodal_cli.splits import canonical_split

# groups of options in --help; those without one are listed first, as "Options"
PHOTOS = "Photos"
CAPTIONS = "Captions"
INDEXES = "Indexes"
METRICS = "Metrics"
OUTPUT = "Output"
COMPUTATION = "Computation"


def canonical(split: str | None) -> str | None:
    """The name of a split: val for dev."""
    return split and canonical_split(split)


class Precision(StrEnum):
    """Precisions of the forward pass."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


def _set_strict(strict: bool) -> bool:
    """Readers of images take the setting from the environment, also those in other modules and threads."""
    if strict:
        os.environ["XMODAL_STRICT"] = "1"
    return strict


Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        rich_help_panel=PHOTOS,
        callback=_set_strict,
        help="Leave out truncated images, which are otherwise decoded as far as they go.",
    ),
]
Json = Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print the result as JSON.")]
Data = Annotated[str, typer.Option("--data", metavar="DATA", help="Dataset name (f8k, shapes) or path.")]
Format = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Dataset format (default: detected from the path).")
]
Device = Annotated[
    str,
    typer.Option("--device", rich_help_panel=COMPUTATION, metavar="auto|cpu|cuda|cuda:N|mps", help="Device to run on."),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        rich_help_panel=COMPUTATION,
        metavar="auto|fp32|bf16|fp16",
        help="Precision of the forward pass (auto: bf16 if supported).",
    ),
]


class Runtime(StrEnum):
    """Libraries that run networks."""

    auto = "auto"
    onnx = "onnx"
    torch = "torch"


class EngineName(StrEnum):
    """Where images are processed."""

    local = "local"
    ray = "ray"


RuntimeOption = Annotated[
    Runtime,
    typer.Option(
        "--runtime",
        rich_help_panel=COMPUTATION,
        metavar="auto|onnx|torch",
        help="Library that runs the networks (auto: onnxruntime, or torch where it is faster).",
    ),
]
Engine = Annotated[
    EngineName,
    typer.Option(
        "--engine", rich_help_panel=COMPUTATION, metavar="local|ray", help="Process images here, or by a Ray cluster."
    ),
]
Address = Annotated[
    str,
    typer.Option(
        "--address",
        rich_help_panel=COMPUTATION,
        metavar="A",
        help="Address of the Ray cluster, such as ray://HOST:10001 (default: that of this machine, or a new one).",
    ),
]
NumProcesses = Annotated[
    int | None,
    typer.Option("--nproc", rich_help_panel=COMPUTATION, metavar="N", help="Train by N processes, one per GPU."),
]
Seed = Annotated[int | None, typer.Option("--seed", rich_help_panel=COMPUTATION, help="Random seed.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, as section.key=value. Can be repeated."),
]
CheckPhotos = Annotated[
    Path | None,
    typer.Option(
        "--check-photos", metavar="DIR", help="Check --features-from on photos of the dataset, in any folder."
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="PATH", help="Output path.")]
IndexName = Annotated[
    str | None,
    typer.Option("--index", metavar="INDEX", help="Index name or folder (default: the index built or updated last)."),
]

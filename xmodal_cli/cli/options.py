"""Options that several commands share, each a named type, so that they read alike everywhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Precision(StrEnum):
    """Number formats of the forward pass."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on stdout.")]
Data = Annotated[
    str, typer.Option("--data", metavar="DATA", help="A registered name (f8k, shapes) or a path in any known format.")
]
Format = Annotated[
    str | None, typer.Option("--format", metavar="NAME", help="Force a dataset format instead of looking at the path.")
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute.")]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision", metavar="auto|fp32|bf16|fp16", help="Number format; auto takes bf16 where the hardware has it."
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, as section.key=value; may be repeated."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="PATH", help="Where to write.")]
IndexName = Annotated[
    str | None,
    typer.Option("--index", metavar="INDEX", help="An index's name or folder; the default is the index built last."),
]

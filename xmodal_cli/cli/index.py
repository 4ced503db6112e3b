"""``xmodal index``: build or update a search index of photo folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import output
from xmodal_cli.cli.options import Device, Json, Precision, PrecisionOption

if TYPE_CHECKING:
    from xmodal_cli.recipes.index import IndexReport


def command(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH...]", help="Photo files and folders (read recursively).")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="M",
            help="Run, model file or open_clip/ARCH/TAG (default: the index's model, else the default one).",
        ),
    ] = None,
    index: Annotated[
        str | None, typer.Option("--index", metavar="INDEX", help="Index name or folder (default: derived from PATH).")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind",
            metavar="flat|hnsw|ivf",
            help="Index type: flat is exact; hnsw and ivf are for millions of photos.",
        ),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Rebuild from scratch.")] = False,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
    json: Json = False,
) -> None:
    """Build or update a search index of photo folders.

    Adds new photos, updates changed ones, follows moved ones and removes deleted ones. Without PATH, the folders of the
    index are read again. The command can be interrupted and repeated at any time.

    Examples:

        xmodal index ~/Pictures

        xmodal index ~/Pictures /media/camera --index family --model order-emb-f8k

        xmodal index --index family

        xmodal index ~/Pictures --index clip --model open_clip/ViT-B-32/laion2b_s34b_b79k
    """
    from xmodal_cli.device import Compute
    from xmodal_cli.recipes.index import index as make_index

    compute = Compute(device, precision.value)
    report = make_index(paths or (), index, model, kind, rebuild, compute, output.TerminalReporter())
    if json:
        output.print_json(report)
    else:
        _show(report)


def _show(report: IndexReport) -> None:
    from xmodal_cli.data import left_out

    kinds = ("added", "updated", "moved", "removed", "unchanged")
    changes = ", ".join(f"{getattr(report, kind)} {kind}" for kind in kinds if getattr(report, kind))
    output.print_line(f"index {report.index}: {report.items} photos ({changes}), model {report.model}")
    for problem in report.unread_folders:
        output.print_line(f"folder not read: {problem.path}: {problem.reason}")
    for line in left_out.to_lines(report.left_out):
        output.print_line(line)

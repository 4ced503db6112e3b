"""``xmodal index``: make an index match folders of photos."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import output
from xmodal_cli.cli.options import Device, IndexName, Json, Precision, PrecisionOption

if TYPE_CHECKING:
    from xmodal_cli.recipes.index import IndexReport

_LISTED = 10  # unreadable pictures named on a terminal; --json names all


def command(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH...", help="Folders (with all below them) and picture files.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="M", help="Run, file or open_clip/ARCH/TAG; default: the index's own, or starter."
        ),
    ] = None,
    index: IndexName = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="flat|hnsw|ivf", help="flat is exact; the others suit millions.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Forget the old index and start anew.")] = False,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
    json: Json = False,
) -> None:
    """Make an index match folders of photos: add, update, move, remove. Safe to run again, and to interrupt.

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
        output.print_json(asdict(report))
    else:
        _show(report)


def _show(report: IndexReport) -> None:
    counted = ("added", "updated", "moved", "removed", "unchanged")
    changes = ", ".join(f"{getattr(report, what)} {what}" for what in counted if getattr(report, what))
    output.print_line(f"index {report.index}: {report.items} photos ({changes}), model {report.model}")
    for problem in report.unread_folders:
        output.print_line(output.printable(f"folder not read: {problem.path}: {problem.reason}"))
    if report.heic_passed_over:
        output.print_line(f"{report.heic_passed_over} HEIC photos are left out: install pillow-heif to read them")
    unreadable = report.unreadable
    if unreadable:
        output.print_line(f"{len(unreadable)} files could not be read and are left out:")
    for problem in unreadable[:_LISTED]:
        output.print_line(output.printable(f"  {problem.path}: {problem.reason}"))
    if len(unreadable) > _LISTED:
        output.print_line(f"  and {len(unreadable) - _LISTED} more; --json lists them all")

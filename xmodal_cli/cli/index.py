"""``xmodal index``: build or update a search index of photo folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import output
from xmodal_cli.cli.options import (
    INDEXES,
    PHOTOS,
    Address,
    Device,
    Engine,
    EngineName,
    Json,
    Precision,
    PrecisionOption,
    Runtime,
    RuntimeOption,
    Strict,
)

if TYPE_CHECKING:
    from xmodal_cli.retrieval.report import IndexReport

_LISTED = 10  # files and folders of each kind listed without --json


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
        str | None,
        typer.Option("--index", metavar="INDEX", help="Index name or folder (default: that of PATH)."),
    ] = None,
    recall: Annotated[
        float | None,
        typer.Option(
            "--recall",
            metavar="R",
            help="Recall of searches in large indexes (default: 0.99): less is faster, 1 is exact; is stored.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="fp16|fp32",
            help="Precision of stored vectors: fp16 changes scores by less than 0.001; is stored.",
        ),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Rebuild from scratch.")] = False,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            rich_help_panel=PHOTOS,
            metavar="PATTERN",
            help="Leave out, as in .gitignore; is stored. Can be repeated.",
        ),
    ] = None,
    remove_missing: Annotated[
        bool,
        typer.Option(
            "--remove-missing",
            rich_help_panel=PHOTOS,
            help="Remove the photos of folders that are empty or do not exist.",
        ),
    ] = False,
    list_: Annotated[
        bool, typer.Option("--list", rich_help_panel=INDEXES, help="List the indexes and their folders.")
    ] = False,
    remove: Annotated[
        Path | None,
        typer.Option(
            "--remove",
            rich_help_panel=INDEXES,
            metavar="FOLDER",
            help="Remove a folder from an index; keeps the files.",
        ),
    ] = None,
    rename: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--rename",
            rich_help_panel=INDEXES,
            metavar="OLD NEW",
            help="Rename an index, or a folder that has a new path.",
        ),
    ] = None,
    delete: Annotated[
        str | None,
        typer.Option("--delete", rich_help_panel=INDEXES, metavar="INDEX", help="Delete an index; keeps the photos."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", rich_help_panel=INDEXES, help="Read a whole index and report damage; changes nothing."),
    ] = False,
    device: Device = "auto",
    precision: PrecisionOption = Precision.auto,
    runtime: RuntimeOption = Runtime.auto,
    engine: Engine = EngineName.local,
    address: Address = "",
    strict: Strict = False,
    json: Json = False,
) -> None:
    """Build or update a search index of photo folders.

    Adds new photos, updates changed ones, follows moved ones and removes deleted ones. Without PATH, the folders of the
    index are read again. The command can be interrupted and repeated at any time.

    Hidden files, thumbnail folders and trash folders are left out, and what is named in .xmodalignore files. Photos of
    a folder that is empty or does not exist, for example because its disk is not mounted, are removed only with
    --remove-missing.

    Indexes that were built in parts, for example on several machines, are joined by xmodal vectors commit.

    Examples:

        xmodal index ~/Pictures

        xmodal index ~/Pictures /media/camera --index family --model order-emb-f8k

        xmodal index --index family

        xmodal index ~/Pictures --exclude raw/ --exclude "*.gif"

        xmodal index ~/Pictures --index clip --model open_clip/ViT-B-32/laion2b_s34b_b79k

        xmodal index --list

        xmodal index --check --index family
    """
    from xmodal_cli.cli import index_management

    edits = index_management.Edits(list_, remove, rename, delete, check)
    if edits.requested():
        index_management.run(edits, index, bool(paths), json)
        return
    from xmodal_cli.device import Compute
    from xmodal_cli.recipes.index import Selection, Storage
    from xmodal_cli.recipes.index import index as make_index

    compute = Compute(device, precision.value, runtime.value, engine.value, address)
    selection = Selection(tuple(exclude or ()), remove_missing)
    reporter = output.TerminalReporter()
    report = make_index(paths or (), index, model, Storage(recall, store), rebuild, compute, reporter, selection)
    if json:
        output.print_json(report)
    else:
        _show(report)


def _show(report: IndexReport) -> None:
    from xmodal_cli.data import left_out

    kinds = ("added", "updated", "moved", "removed", "unchanged")
    changes = ", ".join(f"{getattr(report, kind)} {kind}" for kind in kinds if getattr(report, kind))
    output.print_line(f"index {report.index}: {report.items} photos ({changes}), model {report.model}")
    for root in report.moved_roots:
        output.print_line(f"folder moved or renamed: {root} is no longer in the index")
    if report.recomputed.photos:
        output.print_line(f"embedded again: {report.recomputed.photos} photos; {report.recomputed.reason}")
    if report.recomputed.not_compared:
        output.print_line(
            f"not compared: {report.recomputed.not_compared} photos; their vectors are of an earlier version of "
            "decoding until their folders are indexed again"
        )
    if report.kept:
        output.print_line(f"{sum(entry.photos for entry in report.kept)} photos were not found, and are kept:")
        _list([f"{entry.path} ({entry.photos} photos): {entry.reason}" for entry in report.kept])
        output.print_line("if they were deleted, remove them with --remove-missing")
    for line in [*left_out.to_lines(report.left_out), *left_out.to_lines(report.defects, left_out.DEFECTS)]:
        output.print_line(line)


def _list(lines: Sequence[str]) -> None:
    for line in lines[:_LISTED]:
        output.print_line(f"  {line}")
    if len(lines) > _LISTED:
        output.print_line(f"  and {len(lines) - _LISTED} more (use --json to list all)")

"""``xmodal data``: list, inspect, download, register and generate datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.printable import escape_unprintable

if TYPE_CHECKING:
    from xmodal_cli.data.summary import DatasetSummary, Spread
    from xmodal_cli.types import FeatureSource

app = typer.Typer(no_args_is_help=True, help="List, inspect, download, register and generate datasets.")
make = typer.Typer(no_args_is_help=True, help="Generate a synthetic dataset.")
app.add_typer(make, name="make")


@app.command("list")
def list_datasets(as_json: options.Json = False) -> None:
    """List the dataset names that --data accepts.

    Examples:

      xmodal data list

      xmodal data list --json
    """
    from xmodal_cli.data.known_datasets import list_datasets as run

    entries = run()
    if as_json:
        output.print_json(entries)
        return
    rows = [[entry.name, entry.state, entry.path or entry.about] for entry in entries]
    output.print_table("", ["name", "state", "location"], rows)


@app.command("info")
def info(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Dataset name or path.")],
    format: options.Format = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            rich_help_panel=options.PHOTOS,
            help="Decode every image: truncated ones count as damaged (slower).",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show the splits, captions, image sizes of a dataset, and what is left out: images, rows, captions.

    Examples:

      xmodal data info f8k

      xmodal data info ~/Pictures

      xmodal data info captions.jsonl --json
    """
    from xmodal_cli.data import left_out
    from xmodal_cli.recipes.data import dataset_info

    facts = dataset_info(data, format, output.TerminalReporter(), strict)
    if as_json:
        output.print_json(facts)
        return
    _show(facts.summary)
    sizes = ", ".join(f"{entry.size} ({entry.images:,})" for entry in facts.image_sizes)
    more = facts.distinct_sizes - len(facts.image_sizes)
    output.print_line(f"captions per image   {_spread(facts.captions_per_image)}")
    output.print_line(f"words per caption    {_spread(facts.words_per_caption)}")
    images = "none; the dataset has precomputed features" if facts.precomputed else sizes or "no readable images"
    if facts.features_from is not None:
        output.print_line(f"features             {_describe_source(facts.features_from)}")
    output.print_line(f"image sizes          {images}{f' and {more:,} others' if more > 0 else ''}")
    output.print_line(f"unreadable images    {len(facts.unreadable):,}")
    for line in left_out.to_lines(facts.left_out):
        output.print_line(escape_unprintable(line))


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a public dataset: f8k, f30k or coco.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Target folder (default: data/NAME in XMODAL_HOME).")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Download, verify, unpack and register a public dataset. Interrupted downloads are resumed.

    Without a network connection, the URL and target path of each file are printed for manual download.

    Examples:

      xmodal data get f8k

      xmodal data get coco --out /data/coco
    """
    from xmodal_cli.recipes.data import get_dataset

    _finish(get_dataset(name, out, output.TerminalReporter()), as_json)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name for --data.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Dataset folder or file.")],
    format: options.Format = None,
    features_from: Annotated[
        str | None,
        typer.Option("--features-from", metavar="B", help="Image backbone that computed the .npy features."),
    ] = None,
    crops: Annotated[int, typer.Option("--crops", metavar="1|2|10", help="With --features-from: views per image.")] = 1,
    check_photos: options.CheckPhotos = None,
    as_json: options.Json = False,
) -> None:
    """Register a dataset under a name. The files are read to validate them; nothing is copied or changed.

    Examples:

      xmodal data add f8k ~/data/flickr8k

      xmodal data add mine captions.jsonl

      xmodal data add f8k-vgg f8k_precomp --features-from vgg19 --crops 10 --check-photos ~/data/flickr8k
    """
    from xmodal_cli.recipes.data import add_dataset
    from xmodal_cli.types import FeatureSource

    if features_from is None and (check_photos is not None or crops != 1):
        raise typer.BadParameter("needs --features-from", param_hint="--crops" if crops != 1 else "--check-photos")
    source = FeatureSource(features_from, crops) if features_from else None
    _finish(add_dataset(name, path, format, source, check_photos, output.TerminalReporter()), as_json)


@make.command("shapes")
def make_shapes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New or empty folder.")],
    seed: options.Seed = None,
    as_json: options.Json = False,
) -> None:
    """Generate images of colored shapes with five captions each. The same seed gives the same dataset.

    Examples:

      xmodal data make shapes sample

      xmodal data make shapes sample --seed 7
    """
    from xmodal_cli.recipes.data import make_sample

    _finish(make_sample(out, seed or 0), as_json)


def _finish(summary: DatasetSummary, as_json: bool) -> None:
    if as_json:
        output.print_json(summary)
    else:
        _show(summary)


def _show(summary: DatasetSummary) -> None:
    from xmodal_cli.data.omissions import omission_lines

    output.print_line(f"{summary.name}: {escape_unprintable(str(summary.path))} ({summary.format})")
    splits = ", ".join(f"{name} {count:,}" for name, count in summary.splits.items())
    output.print_line(f"images               {summary.images:,} ({splits})")
    output.print_line(f"captions             {summary.captions:,}")
    for line in omission_lines(summary.omissions):
        output.print_line(escape_unprintable(line))


def _describe_source(source: FeatureSource) -> str:
    views = f", {source.crops} crops" if source.crops > 1 else ""
    checked = "not checked" if source.cosine is None else f"cosine {source.cosine:.3f} on photos"
    return f"declared as {source.backbone}{views}, {checked}"


def _spread(spread: Spread) -> str:
    return f"{spread.min} to {spread.max}, mean {spread.mean}"

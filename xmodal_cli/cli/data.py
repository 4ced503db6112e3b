"""``xmodal data``: datasets by name, what is in them, fetching them, the generated set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xmodal_cli.cli import options, output

app = typer.Typer(no_args_is_help=True, help="Datasets: list, look into, fetch, name, generate.")
make = typer.Typer(no_args_is_help=True, help="Generate a sample dataset.")
app.add_typer(make, name="make")

SHOWN = 5  # unreadable images named in the table


@app.command("list")
def list_datasets(as_json: options.Json = False) -> None:
    """List the names that --data takes.

    Examples:

      xmodal data list

      xmodal data list --json
    """
    from xmodal_cli.recipes.data import list_datasets as run

    entries = run()
    if as_json:
        output.print_json(entries)
        return
    rows = [[entry["name"], entry["state"], entry["path"] or entry["about"]] for entry in entries]
    output.print_table("", ["name", "state", "where"], rows)


@app.command("info")
def info(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A registered name or a path in any known format.")],
    format: options.Format = None,
    as_json: options.Json = False,
) -> None:
    """Show what a dataset holds: splits, captions per image, image sizes, missing or unreadable images.

    Examples:

      xmodal data info f8k

      xmodal data info ~/Pictures

      xmodal data info captions.jsonl --json
    """
    from xmodal_cli.recipes.data import dataset_info

    facts = dataset_info(data, format, output.TerminalReporter())
    if as_json:
        output.print_json(facts)
        return
    _show(facts)
    sizes = ", ".join(f"{entry['size']} ({entry['images']:,})" for entry in facts["image_sizes"])
    more = facts["distinct_sizes"] - len(facts["image_sizes"])
    output.print_line(f"captions per image   {_spread(facts['captions_per_image'])}")
    output.print_line(f"words per caption    {_spread(facts['words_per_caption'])}")
    pictures = "none; the dataset carries precomputed features" if facts["precomputed"] else sizes or "none readable"
    output.print_line(f"image sizes          {pictures}{f' and {more:,} others' if more > 0 else ''}")
    bad = facts["unreadable"]
    output.print_line(f"unreadable images    {len(bad):,}")
    for entry in bad[:SHOWN]:
        output.print_line(f"  {output.printable(entry['reason'])}")
    if len(bad) > SHOWN:
        output.print_line(f"  and {len(bad) - SHOWN:,} more; --json lists them all")


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="f8k, f30k or coco.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The folder; a data folder by default.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Fetch a public dataset from its own hosts: resumes, checks, unpacks, registers the name.

    Offline it says which files to place where.

    Examples:

      xmodal data get f8k

      xmodal data get coco --out /data/coco
    """
    from xmodal_cli.recipes.data import get_dataset

    _finish(get_dataset(name, out, output.TerminalReporter()), as_json)


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What --data will call it.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder or file in any known format.")],
    format: options.Format = None,
    as_json: options.Json = False,
) -> None:
    """Register a folder or file under a name; it is read first, and never copied or changed.

    Examples:

      xmodal data add f8k ~/data/flickr8k

      xmodal data add mine captions.jsonl
    """
    from xmodal_cli.recipes.data import add_dataset

    _finish(add_dataset(name, path, format), as_json)


@make.command("shapes")
def make_shapes(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new or empty folder.")],
    seed: options.Seed = None,
    as_json: options.Json = False,
) -> None:
    """Generate pictures of coloured shapes with five captions each; the same seed gives the same set.

    Examples:

      xmodal data make shapes sample

      xmodal data make shapes sample --seed 7
    """
    from xmodal_cli.recipes.data import make_sample

    _finish(make_sample(out, seed or 0), as_json)


def _finish(facts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(facts)
    else:
        _show(facts)


def _show(facts: dict[str, Any]) -> None:
    output.print_line(f"{facts['name']}: {output.printable(facts['path'])} ({facts['format']})")
    splits = ", ".join(f"{name} {count:,}" for name, count in facts["splits"].items())
    output.print_line(f"images               {facts['images']:,} ({splits})")
    output.print_line(f"captions             {facts['captions']:,}")


def _spread(spread: dict[str, float]) -> str:
    return f"{spread['min']} to {spread['max']}, mean {spread['mean']}"

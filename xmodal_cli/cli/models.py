"""``xmodal models``: what has been trained, and what a model file says of itself."""

from __future__ import annotations

from typing import Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import nest, print_retrieval

app = typer.Typer(no_args_is_help=True, help="Trained models: list them, look into one.")


@app.command("list")
def list_models(as_json: options.Json = False) -> None:
    """List the models at home: runs and model files.

    Examples:

      xmodal models list

      xmodal models list --json
    """
    from xmodal_cli.recipes.models import list_models as run

    entries = run()
    if as_json:
        output.print_json(entries)
    elif not entries:
        output.print_line("no models yet; xmodal train --model order-emb --data shapes makes one")
    else:
        columns = ["model", "kind", "similarity", "backbone", "trained on", "val rsum"]
        keys = ["name", "kind", "similarity", "backbone", "data", "rsum"]
        output.print_table("", columns, [[_cell(entry[key]) for key in keys] for entry in entries])


@app.command("info")
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, a model's name or a .safetensors file.")],
    as_json: options.Json = False,
) -> None:
    """Show what a model is: architecture, features, training settings, val figures.

    Examples:

      xmodal models info order-emb-f8k

      xmodal models info runs/mine/model.safetensors --json
    """
    from xmodal_cli.recipes.models import model_info

    facts = model_info(model)
    if as_json:
        output.print_json(facts)
        return
    shown = (
        "name",
        "path",
        "kind",
        "similarity",
        "embed_dim",
        "backbone",
        "vocabulary",
        "data",
        "fingerprint",
        "xmodal",
    )
    for key in shown:
        output.print_line(f"{key:12} {facts[key]}")
    if "rsum" in facts["metrics"]:
        print_retrieval("val", {facts["name"]: nest(facts["metrics"])})


def _cell(value: object) -> object:
    return f"{value:.1f}" if isinstance(value, float) else value

"""``xmodal models``: what has been trained, and what a model file says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import nest, print_val

app = typer.Typer(no_args_is_help=True, help="Models: list them, look into one, convert weights.")


@app.command("list")
def list_models(as_json: options.Json = False) -> None:
    """List the models at home, runs and model files, and those that come with xmodal. The defaults have a star.

    Examples:

      xmodal models list

      xmodal models list --json
    """
    from xmodal_cli.recipes.models import list_models as run

    entries = run()
    if as_json:
        output.print_json(entries)
    else:
        columns = ["model", "kind", "similarity", "backbone", "trained on", "val rsum", "val CIDEr"]
        keys = ["name", "kind", "similarity", "backbone", "data", "rsum", "cider"]
        output.print_table("", columns, [[_cell(key, entry[key]) for key in keys] for entry in map(_marked, entries)])


@app.command("info")
def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run, a model's name, a .safetensors file, open_clip/ARCH/TAG.")
    ],
    as_json: options.Json = False,
) -> None:
    """Show what a model is: architecture, features, training settings, val figures.

    Examples:

      xmodal models info order-emb-f8k

      xmodal models info runs/mine/model.safetensors --json

      xmodal models info open_clip/ViT-B-32/laion2b_s34b_b79k
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
    for side, tower in facts["architecture"].get("towers", {}).items():
        output.print_line(f"{side + ' tower':12} {_tower(tower)}")
    if facts["metrics"]:
        print_val("val", facts["name"], nest(facts["metrics"]))


@app.command("default")
def default(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="A run, a model's name or file, open_clip/ARCH/TAG.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Choose the matcher that index uses, or the captioner that caption uses, where none is named.

    Without MODEL, says which they are. At first they are the two that come with xmodal.

    Examples:

      xmodal models default

      xmodal models default order-emb-f8k

      xmodal models default starter
    """
    from xmodal_cli.inference.defaults import default_models
    from xmodal_cli.recipes.models import set_default

    if model is not None:
        kind, name = set_default(model)
        output.TerminalReporter().info(f"the default {kind} is now {name}")
    chosen = default_models()
    if as_json:
        output.print_json(chosen)
    elif model is None:
        for kind, name in chosen.items():
            output.print_line(f"{kind:12} {name}")


@app.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint of PyTorch's: .pt, .pth or .bin.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write; FILE.safetensors by default.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: options.Json = False,
) -> None:
    """Turn a checkpoint into a .safetensors file. Nothing in it is run; what would have to be is refused.

    The state dict is found where trainers keep it, and a module. before every name is taken off. The file then
    serves as the weights of a name, as in open_clip/ViT-B-32@FILE or timm/resnet50@FILE.

    Examples:

      xmodal models convert epoch_30.pt

      xmodal models convert open_clip_pytorch_model.bin --out clip.safetensors

      xmodal eval open_clip/ViT-B-32@clip.safetensors --data f8k
    """
    from xmodal_cli.recipes.convert import convert_checkpoint

    result = convert_checkpoint(file, out, force)
    if as_json:
        output.print_json(result)
    else:
        output.print_line(f"{result['tensors']:,} tensors, {result['parameters']:,} numbers: {result['file']}")


@app.command("average")
def average(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Two models or more, by name or file.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The .safetensors file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: options.Json = False,
) -> None:
    """Average the weights of several models into one model, a "soup", which costs no more to use than one of them.

    They must be of one architecture, vocabulary and kind of features. It helps where they share their start:
    fine-tuned from the same weights, not trained from different random ones.

    Examples:

      xmodal models average tuned-a tuned-b tuned-c --out soup.safetensors

      xmodal eval tuned-a tuned-b tuned-c soup.safetensors --data f8k --split val
    """
    from xmodal_cli.recipes.average import average_models

    result = average_models(models, out, force)
    if as_json:
        output.print_json(result)
    else:
        output.print_line(f"the mean of {len(models)} models: {result['file']}")


def _marked(entry: dict[str, Any]) -> dict[str, Any]:
    """The default of its kind is marked."""
    return {**entry, "name": f"{entry['name']} *"} if entry["default"] else entry


def _tower(facts: dict[str, Any]) -> str:
    """One line about a pretrained network inside a model."""
    parts = "blocks" if "blocks" in facts else "layers"
    how = "all of it trained" if not facts[parts] else f"the last {facts[parts]} of its {parts} trained"
    return f"{facts['backbone']}, {how if facts.get('tuned', True) else 'as it came'}"


def _cell(key: str, value: object) -> object:
    return f"{value:.{3 if key == 'cider' else 1}f}" if isinstance(value, float) else value

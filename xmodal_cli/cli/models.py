"""``xmodal models``: list, inspect, check, convert and average models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_val_metrics

if TYPE_CHECKING:
    from xmodal_cli.inference.model_reports import ListedModel

app = typer.Typer(no_args_is_help=True, help="List, inspect, check, convert and average models; set the defaults.")


@app.command("list")
def list_models(as_json: options.Json = False) -> None:
    """List trained, imported and bundled models (* = default).

    Examples:

      xmodal models list

      xmodal models list --json
    """
    from xmodal_cli.recipes.models import list_models as run

    entries = run()
    if as_json:
        output.print_json(entries)
    else:
        columns = ["model", "kind", "similarity", "backbone", "trained on", "val rsum", "val CIDEr", "val mAP"]
        keys = ["name", "kind", "similarity", "backbone", "data", "rsum", "cider", "map"]
        output.print_table("", columns, [[_format_cell(entry, key) for key in keys] for entry in entries])


@app.command("info")
def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Run, model name, .safetensors file or open_clip/ARCH/TAG.")
    ],
    as_json: options.Json = False,
) -> None:
    """Show the architecture, image features, training data and val metrics of a model.

    Examples:

      xmodal models info order-emb-f8k

      xmodal models info runs/mine/model.safetensors --json

      xmodal models info open_clip/ViT-B-32/laion2b_s34b_b79k
    """
    from xmodal_cli.inference.model_reports import report_model

    report = report_model(model)
    if as_json:
        output.print_json(report)
        return
    fields = (
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
    for key in fields:
        if (value := getattr(report, key)) not in ("", None):
            output.print_line(f"{key:12} {value}")
    if declared := report.dataset.get("features_from"):
        checked = "not checked" if declared["cosine"] is None else f"cosine {declared['cosine']:.3f} on photos"
        output.print_line(f"{'features':12} precomputed, declared as {declared['backbone']}, {checked}")
    for side, tower in report.architecture.get("towers", {}).items():
        output.print_line(f"{side + ' tower':12} {_describe_tower(tower)}")
    if report.metrics:
        print_val_metrics("val", report.name, report.metrics)


@app.command("default")
def default(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL]", help="Run, model name, .safetensors file or open_clip/ARCH/TAG.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show or set the default models of index (a matcher), caption (a captioner) and caption --tags auto (a tagger).

    The initial defaults are the bundled models starter and starter-captioner; no tagger is bundled.

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


@app.command("check")
def check(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Run, model name or .safetensors file.")],
    photos: Annotated[Path, typer.Option("--photos", metavar="DIR", help="Folder with photos of its dataset.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DATA", help="The dataset it was trained on (default: by its name).")
    ] = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
) -> None:
    """Check the declared backbone of the features that a model was trained on (train --features-from).

    Features of at most 16 of the photos are compared with those of the dataset. The median cosine to the nearest ones
    is stored in the model file; below 0.65 it is an error.

    Examples:

      xmodal models check vse-f8k_precomp --photos ~/data/flickr8k

      xmodal models check vse-f8k_precomp --photos ~/data/flickr8k --data ~/data/f8k_precomp
    """
    from xmodal_cli.device import Compute
    from xmodal_cli.inference.feature_check import check_features

    checked = check_features(model, photos, data, Compute(device), output.TerminalReporter())
    if as_json:
        output.print_json(checked)
    else:
        source = checked.features_from
        output.print_line(f"{checked.name}: features of {source.backbone}, cosine {source.cosine:.3f} on photos")


@app.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A PyTorch checkpoint (.pt, .pth, .bin, .ckpt).")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Output file (default: FILE with the suffix .safetensors)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: options.Json = False,
) -> None:
    """Convert a PyTorch checkpoint to .safetensors.

    Code in the checkpoint is never executed; a checkpoint that requires it is rejected. Nested state dicts are found,
    and the prefix "module." is removed. Use the file as weights in names such as open_clip/ViT-B-32@FILE or
    timm/resnet50@FILE.

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
        output.print_line(f"{result.tensors:,} tensors, {result.parameters:,} parameters: {result.file}")


@app.command("average")
def average(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names or files of two or more models.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Output file (.safetensors).")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: options.Json = False,
) -> None:
    """Average the weights of several models into one model (a model soup).

    The models must have the same architecture, vocabulary and image features. Averaging helps if they were fine-tuned
    from the same weights, not if they were trained from different random initializations. The result is as fast as a
    single model.

    Examples:

      xmodal models average tuned-a tuned-b tuned-c --out soup.safetensors

      xmodal eval tuned-a tuned-b tuned-c soup.safetensors --data f8k --split val
    """
    from xmodal_cli.recipes.average import average_models

    result = average_models(models, out, force)
    if as_json:
        output.print_json(result)
    else:
        output.print_line(f"average of {len(models)} models: {result.file}")


def _describe_tower(tower: dict[str, Any]) -> str:
    """One line about a pretrained network inside a model."""
    parts = "blocks" if "blocks" in tower else "layers"
    count = tower[parts]
    trained = f"last {count} {parts if count > 1 else parts[:-1]} fine-tuned" if count else "fine-tuned"
    return f"{tower['backbone']}, {trained if tower.get('tuned', True) else 'frozen'}"


def _format_cell(model: ListedModel, key: str) -> object:
    value = getattr(model, key)
    if key == "name":
        return f"{value} *" if model.default else value
    return f"{value:.{1 if key == 'rsum' else 3}f}" if isinstance(value, float) else value

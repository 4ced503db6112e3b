"""``xmodal eval``: the papers' figures for models and embeddings files."""

from __future__ import annotations

from typing import Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_retrieval


def evaluate(
    what: Annotated[list[str], typer.Argument(metavar="WHAT...", help="Models or embeddings files.")],
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="A registered name or a path.")] = None,
    split: Annotated[str, typer.Option("--split", help="The split to evaluate on.")] = "test",
    folds: Annotated[int, typer.Option("--folds", min=1, help="Average over this many parts, as COCO 5-fold 1K.")] = 1,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    as_json: options.Json = False,
) -> None:
    """Evaluate: R@1/5/10, median and mean rank both ways, and their sum.

    WHAT is a model (a run's name or folder, a .safetensors file) or an embeddings file with the arrays images,
    texts and image_of_caption. Several are shown side by side.

    Examples:

      xmodal eval order-emb-f8k --data f8k --split test

      xmodal eval order-emb-f8k vsepp-f8k --data f8k --json

      xmodal eval vectors.npz --folds 5
    """
    from xmodal_cli.recipes.evaluate import evaluate as run

    results = run(what, data, split, folds, device, precision.value, output.TerminalReporter())
    if as_json:
        output.print_json(results[0] if len(results) == 1 else results)
        return
    first = results[0]
    place = f"{first['data']} {first['split']}: " if first["data"] else ""
    title = f"{place}{first['images']:,} images, {first['captions']:,} captions, {first['protocol']}"
    print_retrieval(title, _by_name(results))


def _by_name(results: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    """Keyed by name; a name that comes twice is numbered."""
    named: dict[str, dict[str, object]] = {}
    for result in results:
        name = str(result["model"])
        same = sum(1 for key in named if key == name or key.startswith(f"{name} ("))
        named[f"{name} ({same + 1})" if same else name] = result
    return named

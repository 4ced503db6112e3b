"""``xmodal eval``: the papers' figures for models and embeddings files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_retrieval


def evaluate(
    what: Annotated[list[str], typer.Argument(metavar="WHAT...", help="Models or embeddings files.")],
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="A registered name or a path.")] = None,
    split: Annotated[str, typer.Option("--split", help="The split to evaluate on.")] = "test",
    folds: Annotated[int, typer.Option("--folds", min=1, help="Average over this many parts, as COCO 5-fold 1K.")] = 1,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Add a row: all of WHAT as one, by the mean of their similarities.")
    ] = False,
    bootstrap: Annotated[
        int,
        typer.Option("--bootstrap", metavar="N", min=0, help="95% confidence intervals from N draws of the images."),
    ] = 0,
    ndcg: Annotated[bool, typer.Option("--ndcg", help="Add NDCG@25 with ROUGE-L as relevance.")] = False,
    ranks: Annotated[
        Path | None,
        typer.Option("--ranks", metavar="FILE", help="Write every query's rank and best answers (.jsonl, .csv)."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="DIR", help="Write a page of queries, failures and pictures.")
    ] = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    as_json: options.Json = False,
) -> None:
    """Evaluate: R@1/5/10, median and mean rank both ways, and their sum.

    WHAT is a model (a run's name or folder, a .safetensors file) or an embeddings file with the arrays images,
    texts and image_of_caption. Several are shown side by side; with --ensemble, the last row is all of them as one.

    Examples:

      xmodal eval order-emb-f8k --data f8k --split test

      xmodal eval order-emb-f8k vsepp-f8k --data f8k --json

      xmodal eval vectors.npz --folds 5

      xmodal eval vse-f8k vsepp-f8k --data f8k --ensemble --bootstrap 1000 --ndcg

      xmodal eval vsepp-f8k --data f8k --split val --ranks ranks.jsonl --report report
    """
    from xmodal_cli.recipes.evaluate import evaluate as run
    from xmodal_cli.recipes.extras import Extras

    extras = Extras(ensemble, bootstrap, ndcg, ranks, report)
    results = run(what, data, split, folds, device, precision.value, output.TerminalReporter(), extras)
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

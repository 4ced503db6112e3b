"""``xmodal eval``: the papers' figures for models, embeddings files and files of captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_captions, print_retrieval
from xmodal_cli.errors import ConfigError


def command(
    what: Annotated[
        list[str], typer.Argument(metavar="WHAT...", help="Models, embeddings files or files of captions.")
    ],
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
    beam: Annotated[
        int | None, typer.Option("--beam", metavar="N", min=1, help="Of captioners: width of the beam; 1 is greedy.")
    ] = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    as_json: options.Json = False,
) -> None:
    """Evaluate matchers: R@1/5/10, median and mean rank, their sum; captions: BLEU, METEOR, ROUGE-L, CIDEr, SPICE.

    WHAT is a model (a run's name or folder, a .safetensors file), an embeddings file with the arrays images,
    texts and image_of_caption, or a file of captions as COCO has it, a JSON list of image_id and caption. Several
    are shown side by side; with --ensemble, the last row is all of them as one.

    Examples:

      xmodal eval order-emb-f8k --data f8k --split test

      xmodal eval order-emb-f8k vsepp-f8k --data f8k --json

      xmodal eval vectors.npz --folds 5

      xmodal eval vse-f8k vsepp-f8k --data f8k --ensemble --bootstrap 1000 --ndcg

      xmodal eval vsepp-f8k --data f8k --split val --ranks ranks.jsonl --report report

      xmodal eval results.json --data f8k --split test --json
    """
    from xmodal_cli.device import Compute
    from xmodal_cli.evaluation.extras import Extras
    from xmodal_cli.recipes.evaluate import evaluate as run
    from xmodal_cli.recipes.evaluate_captions import about_captions, evaluate_captions, find_models

    compute = Compute(device, precision.value)
    found = find_models(what)
    if about_captions(found):
        _refuse({"--folds": folds > 1, "--bootstrap": bootstrap, "--ndcg": ndcg, "--ranks": ranks, "--report": report})
        decoding = None if beam is None else {"beam": beam}
        _show(evaluate_captions(found, data, split, decoding, ensemble, compute, output.TerminalReporter()), as_json)
        return
    if beam is not None:
        raise ConfigError("--beam is for captioners, and these are matchers", "leave --beam out")
    extras = Extras(ensemble, bootstrap, ndcg, ranks, report)
    results = run(found, data, split, folds, compute, output.TerminalReporter(), extras)
    _show(results, as_json)


def _refuse(given: dict[str, Any]) -> None:
    for option, value in given.items():
        if value:
            raise ConfigError(f"{option} is for matchers, and these are captions", f"leave {option} out")


def _show(results: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        output.print_json(results[0] if len(results) == 1 else results)
        return
    first = results[0]
    if "signature" in first:
        print_captions(f"{first['data']} {first['split']}: {first['images']:,} images", _by_name(results))
        return
    place = f"{first['data']} {first['split']}: " if first["data"] else ""
    title = f"{place}{first['images']:,} images, {first['captions']:,} captions, {first['protocol']}"
    print_retrieval(title, _by_name(results))


def _by_name(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Keyed by name; a name that comes twice is numbered."""
    named: dict[str, dict[str, Any]] = {}
    for result in results:
        name = str(result["model"])
        same = sum(1 for key in named if key == name or key.startswith(f"{name} ("))
        named[f"{name} ({same + 1})" if same else name] = result
    return named

"""``xmodal eval``: the standard metrics of models, embeddings files and caption results files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_captions, print_retrieval, print_tags
from xmodal_cli.errors import ConfigError
from xmodal_cli.result_json import to_json

if TYPE_CHECKING:
    from xmodal_cli.evaluation.caption_scores import CaptionResult
    from xmodal_cli.evaluation.scoring import RetrievalResult
    from xmodal_cli.evaluation.tag_scores import TagResult


def command(
    what: Annotated[
        list[str], typer.Argument(metavar="MODEL|FILE...", help="Models, embeddings files or caption results files.")
    ],
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Dataset name or path.")] = None,
    split: Annotated[str, typer.Option("--split", callback=options.canonical, help="Split to evaluate on.")] = "test",
    folds: Annotated[
        int,
        typer.Option(
            "--folds", rich_help_panel=options.METRICS, metavar="N", min=1, help="Average over N folds (COCO 1K: 5)."
        ),
    ] = 1,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Also evaluate all of them as one ensemble.")] = False,
    bootstrap: Annotated[
        int,
        typer.Option(
            "--bootstrap",
            rich_help_panel=options.METRICS,
            metavar="N",
            min=0,
            help="Add 95% confidence intervals from N bootstrap samples of the images.",
        ),
    ] = 0,
    top_k: Annotated[
        str | None,
        typer.Option(
            "--top-k", rich_help_panel=options.METRICS, metavar="K,K,...", help="Cut-offs of R@K (default: 1,5,10)."
        ),
    ] = None,
    ndcg: Annotated[
        bool, typer.Option("--ndcg", rich_help_panel=options.METRICS, help="Add NDCG@25 with ROUGE-L as relevance.")
    ] = False,
    ranks: Annotated[
        Path | None,
        typer.Option(
            "--ranks",
            rich_help_panel=options.OUTPUT,
            metavar="FILE",
            help="Write per-query ranks and top results (.jsonl, .csv).",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            rich_help_panel=options.OUTPUT,
            metavar="DIR",
            help="Write an HTML report with examples, failures and images.",
        ),
    ] = None,
    beam: Annotated[
        int | None,
        typer.Option(
            "--beam", rich_help_panel=options.CAPTIONS, metavar="N", min=1, help="Beam size of captioners (1 = greedy)."
        ),
    ] = None,
    settings: options.Set = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    as_json: options.Json = False,
) -> None:
    """Evaluate matchers (R@1/5/10, ranks, rsum), captions (BLEU, METEOR, ROUGE-L, CIDEr, SPICE) or taggers (mAP).

    MODEL is a run name, a run folder or a .safetensors file. FILE is an embeddings file with the arrays images, texts
    and image_of_caption, or a caption results file in COCO format: a JSON list of image_id and caption, or one of them
    per line (.json, .jsonl, also .gz). The results of several models and files are shown in one table. An --ensemble of
    matchers averages their similarities. Taggers are scored by mean average precision, and by precision and recall of
    the best 1, 5 and 10 tags.

    Captions are generated with the decoding settings of the model's training run; --set decoding.KEY=VALUE changes
    them, and --beam is short for decoding.beam.

    Examples:

      xmodal eval order-emb-f8k --data f8k --split test

      xmodal eval order-emb-f8k vsepp-f8k --data f8k --json

      xmodal eval vectors.npz --folds 5

      xmodal eval vse-f8k vsepp-f8k --data f8k --ensemble --bootstrap 1000 --ndcg

      xmodal eval vsepp-f8k --data f8k --split val --ranks ranks.jsonl --report report

      xmodal eval vsepp-f8k --data f8k --top-k 1,5,10,50

      xmodal eval transformer-f8k --data f8k --beam 3 --set decoding.length_penalty=0.7

      xmodal eval results.json --data f8k --split test --json

      xmodal eval transformer-f8k --data f8k --split val --report captions
    """
    from xmodal_cli.device import Compute
    from xmodal_cli.evaluation.extras import Extras
    from xmodal_cli.evaluation.option_checks import check_options
    from xmodal_cli.inference.caption_types import decoding_settings
    from xmodal_cli.recipes.evaluate import evaluate as run
    from xmodal_cli.recipes.evaluate_captions import evaluate_captions, find_models, is_caption_evaluation
    from xmodal_cli.recipes.evaluate_tags import evaluate_taggers, is_tag_evaluation

    compute = Compute(device, precision.value)
    models = find_models(what)
    given: dict[str, object] = {
        "--folds": folds > 1,
        "--bootstrap": bootstrap,
        "--top-k": top_k,
        "--ndcg": ndcg,
        "--ranks": ranks,
    }
    given |= {"--report": report, "--ensemble": ensemble, "--beam": beam, "--set": settings}
    reporter = output.TerminalReporter()
    if is_tag_evaluation(models):
        check_options("taggers", given)
        _show_tags(evaluate_taggers(models, data, split, compute, reporter), as_json)
        return
    if is_caption_evaluation(models):
        check_options("captioners", given)
        changes = [*(settings or ()), *decoding_settings({} if beam is None else {"beam": beam})]
        scored = evaluate_captions(models, data, split, changes, ensemble, compute, reporter, report)
        _show_captions(scored, as_json)
        return
    check_options("matchers", given)
    extras = Extras(ensemble, bootstrap, ndcg, ranks, report, top_k=_cut_offs(top_k))
    results = run(models, data, split, folds, compute, reporter, extras)
    _show_retrieval(results, as_json)


def _cut_offs(text: str | None) -> tuple[int, ...]:
    """The whole numbers of ``1,5,10``, ascending, each once. Raises ConfigError."""
    if text is None:
        return (1, 5, 10)
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise ConfigError(f"--top-k must be whole numbers of at least 1, not {text!r}", "for example --top-k 1,5,10,50")
    return tuple(sorted({int(word) for word in words}))


def _show_retrieval(results: Sequence[RetrievalResult], as_json: bool) -> None:
    if as_json:
        output.print_json(results[0] if len(results) == 1 else results)
        return
    first = results[0]
    source = f"{first.data} {first.split}: " if first.data else ""
    title = f"{source}{first.images:,} images, {first.captions:,} captions, protocol {first.protocol}"
    print_retrieval(title, _by_name(results))


def _show_captions(results: Sequence[CaptionResult], as_json: bool) -> None:
    if as_json:
        output.print_json(results[0] if len(results) == 1 else results)
        return
    first = results[0]
    print_captions(f"{first.data} {first.split}: {first.images:,} images", _by_name(results))


def _show_tags(results: Sequence[TagResult], as_json: bool) -> None:
    if as_json:
        output.print_json(results[0] if len(results) == 1 else results)
        return
    first = results[0]
    print_tags(f"{first.data} {first.split}: {first.images:,} images", _by_name(results))


def _by_name(results: Sequence[RetrievalResult | CaptionResult | TagResult]) -> dict[str, dict[str, Any]]:
    """The JSON of the results by name; repeated names get a number."""
    named: dict[str, dict[str, Any]] = {}
    for result in results:
        name = result.model
        same = sum(1 for key in named if key == name or key.startswith(f"{name} ("))
        named[f"{name} ({same + 1})" if same else name] = to_json(result)
    return named

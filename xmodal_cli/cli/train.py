"""``xmodal train``: train a matcher or a captioner from a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import nest, print_val


def command(
    model: Annotated[str, typer.Option("--model", metavar="PRESET", help="A preset's name, or a .toml file.")],
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="A registered name or a path.")] = "shapes",
    backbone: Annotated[str | None, typer.Option("--backbone", help="The image features to train on.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="The run's folder.")] = None,
    settings: options.Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    init_from: Annotated[str | None, typer.Option("--init-from", metavar="MODEL", help="Start from it.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Show the settings and stop.")] = False,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    seed: options.Seed = None,
    as_json: options.Json = False,
) -> None:
    """Train a matcher or a captioner: extracts missing features, evaluates on val after every epoch, keeps the best.

    Examples:

      xmodal train --model order-emb --data f8k

      xmodal train --model vsepp --data f8k --backbone resnet152 --set training.epochs=30

      xmodal train --model order-emb --data f8k --resume

      xmodal train --model transformer --data f8k --backbone efficientnet-lite2@best-offline-f8k

      xmodal train --model vse --print-config
    """
    from xmodal_cli.config import load_config, to_toml

    flags = [f"training.device={device}", f"training.precision={precision.value}"]
    flags += [f"features.backbone={backbone}"] if backbone else []
    flags += [f"training.seed={seed}"] if seed is not None else []
    config = load_config(model, [*(settings or []), *_given(flags)])
    if print_config:
        output.print_line(to_toml(config, comments=True).rstrip())
        return
    from xmodal_cli.recipes.train import train_model

    result = train_model(config, data, out, resume, init_from, output.TerminalReporter())
    figures = nest(result.metrics)
    if as_json:
        facts = {"best_epoch": result.best_epoch, "epochs": result.epochs, "interrupted": result.interrupted}
        output.print_json({"run": str(result.run), "model": str(result.model), **facts, "val": figures})
        return
    if figures:
        print_val(f"best on val (epoch {result.best_epoch} of {result.epochs})", result.run.name, figures)
    _say_next(result.run, data, result.interrupted, result.seconds)


def _given(flags: list[str]) -> list[str]:
    return [flag for flag in flags if not flag.endswith("=auto")]


def _say_next(run: Path, data: str, interrupted: bool, seconds: float) -> None:
    reporter = output.TerminalReporter()
    if interrupted:
        reporter.info(f"stopped after {seconds:,.0f} s; {run} is usable, and the same command with --resume goes on")
    else:
        reporter.info(f"done in {seconds:,.0f} s: {run} (model.safetensors, log.jsonl, curves.png)")
    from xmodal_cli.paths import runs_dir

    name = run.name if run.parent == runs_dir() else str(run)
    reporter.info(f"next: xmodal eval {name} --data {data} --split test")

"""``xmodal train``: train a matcher, captioner or tagger from a preset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from xmodal_cli.cli import options, output
from xmodal_cli.cli.tables import print_val_metrics
from xmodal_cli.errors import ReportedInterrupt
from xmodal_cli.shell_commands import xmodal_command


def command(
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", metavar="PRESET", help="Preset name or .toml file.")],
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="Dataset name or path (default: the .toml file's, or shapes)."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="B", help="Image backbone, NAME@FILE or NAME@RUN (default: the preset's)."),
    ] = None,
    features_from: Annotated[
        str | None,
        typer.Option("--features-from", metavar="B", help="Image backbone that computed the dataset's .npy features."),
    ] = None,
    check_photos: options.CheckPhotos = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="RUN", help="Run folder (default: runs/PRESET-DATA in XMODAL_HOME).")
    ] = None,
    settings: options.Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
    init_from: Annotated[
        str | None, typer.Option("--init-from", metavar="MODEL", help="Initialize weights from this model.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", rich_help_panel=options.OUTPUT, help="Print the settings and exit.")
    ] = False,
    num_processes: options.NumProcesses = None,
    device: options.Device = "auto",
    precision: options.PrecisionOption = options.Precision.auto,
    seed: options.Seed = None,
    as_json: options.Json = False,
) -> None:
    """Train a matcher, captioner or tagger from a preset.

    Missing image features are extracted first. The model is evaluated on val after every epoch, and the best one is
    kept.

    A model trained on .npy features (format vse) can read photos if --features-from names the backbone that computed
    them. Their shape is compared, and with --check-photos also the features of a few photos of the dataset.

    Examples:

      xmodal train --model order-emb --data f8k

      xmodal train --model vsepp --data f8k --backbone resnet152 --set training.epochs=30

      xmodal train --model order-emb --data f8k --resume

      xmodal train --model transformer --data f8k --backbone efficientnet-lite2@best-offline-f8k

      xmodal train --model vse --data f8k_precomp --features-from vgg19 --set features.crops=10 --check-photos photos

      xmodal train --model vse --print-config
    """
    from xmodal_cli.config import data_argument, load_config, to_dict, to_toml, with_data

    flags = [f"training.device={device}", f"training.precision={precision.value}"]
    flags += [f"features.backbone={backbone}"] if backbone else []
    flags += [f"data.features_from={features_from}"] if features_from else []
    flags += [f"training.seed={seed}"] if seed is not None else []
    config = load_config(model, [*(settings or []), *_without_auto(flags)])
    if print_config:
        config = with_data(config, data) if data is not None else config
        if as_json:
            output.print_json(to_dict(config))
        else:
            output.print_text(to_toml(config, comments=True).rstrip())
        return
    from xmodal_cli.data.registry import resolve
    from xmodal_cli.trainers.resume import check_folder, run_folder

    data = data_argument(config, data)
    resolve(data)  # an unknown dataset and a folder with a run are reported before torch is imported, in seconds
    check_folder(run_folder(config, data, out), config, resume)
    if num_processes is not None:
        _start_processes(num_processes, context.obj)
    from xmodal_cli.recipes.train import train_model
    from xmodal_cli.training.distributed import is_main_process

    result = train_model(config, data, out, resume, init_from, output.TerminalReporter(), check_photos)
    if not is_main_process():
        return
    if as_json:
        output.print_json(result)
    elif result.val:
        title = f"best on val (epoch {result.best_epoch} of {result.epochs})"
        print_val_metrics(title, result.run.name, result.metrics)
    if result.interrupted:
        _print_interrupted(result.run, result.seconds)
        raise ReportedInterrupt
    if not as_json:
        _print_next_steps(result.run, data, result.seconds)


def _start_processes(num_processes: int, arguments: Sequence[str]) -> None:
    """Run the command line ``arguments`` in several processes, and exit with their status. Raises ConfigError."""
    from xmodal_cli.training.launcher import INTERRUPTED, run_processes

    position = next(i for i, argument in enumerate(arguments) if argument.partition("=")[0] == "--nproc")
    after = position + (1 if "=" in arguments[position] else 2)
    code = run_processes(num_processes, [*arguments[:position], *arguments[after:]])
    raise ReportedInterrupt if code == INTERRUPTED else typer.Exit(code)


def _without_auto(flags: list[str]) -> list[str]:
    return [flag for flag in flags if not flag.endswith("=auto")]


def _print_interrupted(run: Path, seconds: float) -> None:
    from xmodal_cli.training.loop import RESUME

    output.TerminalReporter().info(f"interrupted after {seconds:,.0f} s; {run} is usable; {RESUME}")


def _print_next_steps(run: Path, data: str, seconds: float) -> None:
    reporter = output.TerminalReporter()
    reporter.info(f"done in {seconds:,.0f} s: {run} (model.safetensors, log.jsonl, curves.png)")
    from xmodal_cli.paths import runs_dir

    name = run.name if run.parent == runs_dir() else run
    reporter.info(f"next: {xmodal_command('eval', name, '--data', data, '--split', 'test')}")

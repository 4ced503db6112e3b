"""The training curves of a run as an image: the loss, the val scores, and the val ranks of a matcher, over epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmodal_cli.paths import atomic_path
from xmodal_cli.training.log import read_log

FILE = "curves.png"
Record = dict[str, Any]
CAPTION_SCORES = ("bleu_1", "bleu_4", "meteor", "rouge_l", "cider")


def draw_curves(folder: Path) -> Path:
    """Plot the run's log to ``folder/curves.png``; returns its path. Raises StorageError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    records = read_log(folder)
    steps, evals = ([r for r in records if r["event"] == event] for event in ("step", "eval"))
    per_epoch = steps_per_epoch(evals)
    panels = val_panels(evals)
    fig = Figure(figsize=(5 * (1 + len(panels)), 4), layout="constrained")
    first, *others = fig.subplots(1, 1 + len(panels), squeeze=False)[0]
    _plot_loss(first, steps, per_epoch)
    for axes, (title, names) in zip(others, panels, strict=True):
        _plot_metrics(axes, title, names, evals, per_epoch)
    for axes in fig.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    with atomic_path(folder / FILE) as partial_file:
        FigureCanvasAgg(fig).print_png(str(partial_file))
    return folder / FILE


def steps_per_epoch(evals: Sequence[Record]) -> float:
    """The largest quotient of the evaluations, that of one at the end of an epoch if there is one; 0 if there is none.

    An evaluation inside of an epoch has the number of that epoch, so its quotient is smaller.
    """
    return max((r["step"] / r["epoch"] for r in evals if r["epoch"] > 0 and r["step"] > 0), default=0)


def val_panels(evals: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """The title and the metrics of each panel."""
    names = list(evals[0]) if evals else []
    ranks = [name for name in names if name.endswith("_rank")]
    scores = [name for name in names if "R@" in name]
    if not ranks and not scores:
        others = [name for name in names if name not in ("event", "step", "epoch")]
        return [("val scores", [name for name in names if name in CAPTION_SCORES] or others)]
    return [("val recall", scores), *([("val rank", ranks)] if ranks else [])]


def _plot_loss(axes: Any, steps: Sequence[Record], per_epoch: float) -> None:
    axes.plot([position_on_axis(r, per_epoch) for r in steps], [r["loss"] for r in steps], linewidth=1)
    axes.set(title="training loss", xlabel="epoch" if per_epoch else "step")
    if steps and all(r["loss"] is not None and r["loss"] > 0 for r in steps):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)


def _plot_metrics(axes: Any, title: str, names: Sequence[str], evals: Sequence[Record], per_epoch: float) -> None:
    for name in names:
        values = [float("nan") if r.get(name) is None else r[name] for r in evals]
        axes.plot([position_on_axis(r, per_epoch) for r in evals], values, marker=".", label=name.replace("_", " "))
    axes.set(title=title, xlabel="epoch")
    if title == "val recall":
        axes.set_ylim(0, 100)
    shown = [value for name in names for value in (r.get(name) for r in evals) if value]
    if title == "val rank" and shown and max(shown) >= 10 * min(shown):  # as the order-embedding project draws them
        axes.set_yscale("log")
    axes.grid(alpha=0.3, which="both")
    if names:
        axes.legend(fontsize="small")


def position_on_axis(record: Mapping[str, Any], per_epoch: float) -> float:
    """Where a record is on the axis: in epochs, or in steps before the first evaluation."""
    return float(record["step"] / per_epoch if per_epoch else record["step"])

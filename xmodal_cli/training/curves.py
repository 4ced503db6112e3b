"""The training curves of a run as an image: loss over steps, val recalls over epochs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xmodal_cli.paths import atomic_path
from xmodal_cli.training.log import read_log

FILE = "curves.png"


def draw_curves(folder: Path) -> Path:
    """Plot the run's log to ``folder/curves.png``; returns its path. Raises StorageError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = read_log(folder)
    fig = Figure(figsize=(10, 4), layout="constrained")
    left, right = fig.subplots(1, 2)
    _plot_loss(left, [r for r in records if r["event"] == "step"])
    _plot_recalls(right, [r for r in records if r["event"] == "eval"])
    with atomic_path(folder / FILE) as partial_file:
        FigureCanvasAgg(fig).print_png(str(partial_file))
    return folder / FILE


def _plot_loss(axes: Any, steps: list[dict[str, Any]]) -> None:
    axes.plot([r["step"] for r in steps], [r["loss"] for r in steps], linewidth=1)
    axes.set(title="training loss", xlabel="step")
    if steps and all(r["loss"] > 0 for r in steps):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)


def _plot_recalls(axes: Any, evals: list[dict[str, Any]]) -> None:
    epochs = [r["epoch"] for r in evals]
    names = [n for n in (evals[0] if evals else {}) if "R@" in n]
    for name in names:
        axes.plot(epochs, [r[name] for r in evals], marker=".", label=name)
    axes.set(title="val recall", xlabel="epoch", ylim=(0, 100))
    axes.grid(alpha=0.3)
    if names:
        axes.legend(fontsize="small")

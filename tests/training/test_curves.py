"""What the curves of a run show: the loss, and the val metrics of matchers and captioners, over epochs."""

from __future__ import annotations

import json

import pytest

from xmodal_cli.training import curves
from xmodal_cli.training.log import FILE, read_log

SIDES = ("image_to_text", "text_to_image")
RETRIEVAL = {f"{side} {name}": value for side in SIDES for name, value in
             {"R@1": 10.0, "R@10": 50.0, "median_rank": 9, "mean_rank": 30.0}.items()} | {"rsum": 120.0}  # fmt: skip
CAPTIONS = {"bleu_1": 0.6, "bleu_4": 0.2, "cider": 0.5, "mean_length": 9.0}


def write_log(folder, metrics, epochs=3, steps=4):
    records = []
    for epoch in range(epochs):
        for step in range(epoch * steps + 1, (epoch + 1) * steps + 1):
            records.append({"event": "step", "step": step, "epoch": epoch, "loss": 5.0 / step})
        factor = 1 / (1 + 4 * epoch)
        values = {name: value * factor for name, value in metrics.items()}
        records.append({"event": "eval", "step": (epoch + 1) * steps, "epoch": epoch + 1, **values})
    (folder / FILE).write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws the curves of a log; returns, per panel, title, x label, y scale and the lines by label."""
    import matplotlib.figure

    grids = []
    real = matplotlib.figure.Figure.subplots

    def subplots(self, *args, **kwargs):
        axes = real(self, *args, **kwargs)
        grids.append(axes)
        return axes

    monkeypatch.setattr("matplotlib.figure.Figure.subplots", subplots)

    def draw(metrics, **how):
        write_log(tmp_path, metrics, **how)
        assert curves.draw_curves(tmp_path).read_bytes().startswith(b"\x89PNG")
        panels = {}
        for axes in grids[-1][0]:
            lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
            panels[axes.get_title()] = (axes.get_xlabel(), axes.get_yscale(), lines)
        return panels

    return draw


def test_a_matcher_has_loss_recalls_and_ranks_over_epochs(drawn):
    panels = drawn(RETRIEVAL)
    assert list(panels) == ["training loss", "val recall", "val rank"]
    assert {label for label, _, _ in panels.values()} == {"epoch"}
    _, scale, lines = panels["val rank"]
    assert scale == "log"  # 30 falls to 1: a factor of ten and more, as in the order-embedding project
    assert set(lines) == {f"{side.replace('_', ' ')} {name} rank" for side in SIDES for name in ("median", "mean")}
    epochs, values = lines["image to text mean rank"]
    assert epochs == [1, 2, 3]
    assert values == pytest.approx([30, 6, 30 / 9])
    (epochs, losses), = panels["training loss"][2].values()  # fmt: skip
    assert epochs == pytest.approx([step / 4 for step in range(1, 13)])
    assert losses == pytest.approx([5 / step for step in range(1, 13)])
    assert set(panels["val recall"][2]) == {f"{side.replace('_', ' ')} R@{k}" for side in SIDES for k in (1, 10)}


def test_a_captioner_has_the_scores_of_its_captions(drawn):
    panels = drawn(CAPTIONS)
    assert list(panels) == ["training loss", "val scores"]
    assert set(panels["val scores"][2]) == {"bleu 1", "bleu 4", "cider"}


def test_a_run_that_ended_before_its_first_evaluation(drawn):
    panels = drawn({}, epochs=0)
    assert list(panels) == ["training loss", "val scores"]


def test_a_run_that_ended_inside_of_an_epoch(drawn, monkeypatch):
    """Its last evaluation, after one of the four steps of the fourth epoch, has the number of that epoch."""
    within = {"event": "eval", "step": 13, "epoch": 4, **RETRIEVAL}
    monkeypatch.setattr(curves, "read_log", lambda folder: [*read_log(folder), within])
    (epochs, _), *_ = drawn(RETRIEVAL)["val recall"][2].values()
    assert epochs == [1, 2, 3, 13 / 4]

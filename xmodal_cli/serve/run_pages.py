"""The pages ``/runs``: a table of all training runs, and the curves, metrics and settings of the chosen ones."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from xmodal_cli.reports.charts import NUM_COLORS, Chart, Curve, plot
from xmodal_cli.reports.pages import render
from xmodal_cli.training.curves import position_on_axis, steps_per_epoch, val_panels
from xmodal_cli.training.run_records import TRAINING, RunRecord

MAX_RUNS = NUM_COLORS  # side by side
MAX_POINTS = 400  # of a curve
MAIN_METRICS = ("rsum", "cider", "map")  # of matchers, captioners and taggers
_COMPARED = ("rsum", "R@1", "median_rank", "cider", "bleu_4", "map")  # metrics with a chart for several runs
_SHARES = ("R@", "bleu", "cider", "map")  # metrics that are better if they are higher
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True)
class RunRow:
    """A row of the table of runs. ``toggle`` is the address that adds it to those side by side, or removes it."""

    run: RunRecord
    is_shown: bool
    toggle: str
    score: str
    age: str


@dataclass(frozen=True)
class MetricRow:
    """A metric of the runs side by side; ``best`` are the positions of the highest or, for ranks, the lowest value."""

    name: str
    values: Sequence[str]
    best: frozenset[int]


def draw_runs_page(runs: Sequence[RunRecord], shown: Sequence[str], folders: Sequence[str]) -> str:
    """The page of ``runs`` found in ``folders``; those named ``shown`` are side by side."""
    chosen = [run for run in runs if run.name in shown][:MAX_RUNS]
    names = [run.name for run in chosen]
    rows = [RunRow(run, run.name in names, _address(names, run.name), _score(run), age_of(run)) for run in runs]
    context = {
        "rows": sorted(rows, key=lambda row: -row.run.updated),
        "chosen": chosen,
        "charts": charts_of(chosen),
        "metrics": metric_rows(chosen),
        "settings": setting_rows(chosen),
        "reports": [(run, urlencode({"run": run.name})) for run in chosen if {"rsum", "cider"} & {*run.best}],
        "folders": folders,
        "max_runs": MAX_RUNS,
        "is_live": any(run.state == TRAINING for run in runs),
    }
    return render("runs", context)


def charts_of(runs: Sequence[RunRecord]) -> list[Chart]:
    """The curves: of one run those of ``curves.png``, of several a chart per metric with a curve per run."""
    if not runs:
        return []
    losses = [Curve(run.name if len(runs) > 1 else "loss", _points(run, run.steps, "loss")) for run in runs]
    charts = [plot("training loss", "epoch" if any(run.evals for run in runs) else "step", losses)]
    if len(runs) == 1:
        for title, names in val_panels(runs[0].evals):
            curves = [Curve(name.replace("_", " "), _points(runs[0], runs[0].evals, name)) for name in names]
            charts.append(plot(title, "epoch", curves, top=100 if title == "val recall" else None))
    else:
        for name in _metrics_to_compare(runs):
            curves = [Curve(run.name, _points(run, run.evals, name)) for run in runs]
            charts.append(plot(f"val {name.replace('_', ' ')}", "epoch", curves))
    return [chart for chart in charts if chart is not None]


def metric_rows(runs: Sequence[RunRecord]) -> list[MetricRow]:
    """The val metrics of the best models, in the order of the runs' files."""
    names = dict.fromkeys(name for run in runs for name in run.best)
    rows = []
    for name in names:
        values = [run.best.get(name, math.nan) for run in runs]
        known = [value for value in values if not math.isnan(value)]
        best = (max if _is_score(name) else min)(known)
        is_ranked = len(set(known)) > 1 and (_is_score(name) or name.endswith("_rank"))
        marked = {n for n, value in enumerate(values) if value == best} if is_ranked else set[int]()
        rows.append(MetricRow(name.replace("_", " "), [_number(name, value) for value in values], frozenset(marked)))
    return rows


def setting_rows(runs: Sequence[RunRecord]) -> list[tuple[str, list[str]]]:
    """The settings that differ between runs, or all settings of a single one."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    rows = [(name, [_text(run.settings.get(name, "")) for run in runs]) for name in names]
    return [(name, values) for name, values in rows if len(runs) == 1 or len(set(values)) > 1]


def age_of(run: RunRecord, now: float | None = None) -> str:
    """The time since the last record of the log, in words; empty if there is none."""
    if not run.updated:
        return ""
    seconds = max((time.time() if now is None else now) - run.updated, 0)
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds:.0f} s ago"


def _address(names: Sequence[str], name: str) -> str:
    """The page with ``name`` added to ``names``, or removed from them; the oldest of too many is removed."""
    others = [other for other in names if other != name]
    kept = others if name in names else [*others, name][-MAX_RUNS:]
    return "/runs" + (f"?{urlencode([('run', other) for other in kept])}" if kept else "")


def _score(run: RunRecord) -> str:
    name = next((name for name in MAIN_METRICS if name in run.best), "")
    return f"{name} {_number(name, run.best[name])}" if name else ""


def _points(run: RunRecord, records: Sequence[Mapping[str, Any]], name: str) -> list[tuple[float, float]]:
    """At most ``MAX_POINTS`` points (epoch, value), the last one included."""
    per_epoch = steps_per_epoch(run.evals)
    found = [record for record in records if isinstance(record.get(name), int | float)]
    stride = max(math.ceil(len(found) / MAX_POINTS), 1)
    kept = [*found[::-1][::stride]][::-1]
    return [(position_on_axis(record, per_epoch), float(record[name])) for record in kept]


def _metrics_to_compare(runs: Sequence[RunRecord]) -> list[str]:
    """Metrics that at least two of the runs have."""
    counts: dict[str, int] = {}
    for run in runs:
        for name in run.evals[0] if run.evals else ():
            counts[name] = counts.get(name, 0) + 1
    return [name for name, count in counts.items() if count > 1 and name.rpartition(" ")[2] in _COMPARED]


def _is_score(name: str) -> bool:
    return name == "rsum" or any(name.rpartition(" ")[2].startswith(part) for part in _SHARES)


def _number(name: str, value: float) -> str:
    if math.isnan(value):
        return "-"
    in_percent = name == "rsum" or "R@" in name
    return f"{value:,.1f}" if in_percent or name.endswith("_rank") else f"{value:.3f}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)

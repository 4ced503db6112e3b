"""The table columns of the caption metrics: order, labels and formatting, as declared by the metric modules."""

from __future__ import annotations

from dataclasses import dataclass

from xmodal_cli import catalog

LAST = 1000  # sort key of a metric without ORDER


@dataclass(frozen=True)
class CaptionColumns:
    """The columns of one metric: ``labels`` maps a score to its column; see ``metrics/captions`` for the rest."""

    metric: str
    order: int
    labels: dict[str, str]
    percent: bool
    counts: tuple[str, ...]
    from_training: tuple[str, ...]
    json_only: tuple[str, ...]
    lower_is_better: bool

    def format(self, value: float) -> str:
        """The value as printed in the table."""
        return f"{100 * value:.1f}" if self.percent else f"{value:.3f}"


def caption_columns(metric: str) -> CaptionColumns:
    """The columns of the metric named ``metric``. Raises UnknownName."""
    module = catalog.load("caption_metric", metric)
    name = catalog.canonical(metric)
    return CaptionColumns(
        metric=name,
        order=getattr(module, "ORDER", LAST),
        labels=getattr(module, "LABELS", {name.replace("-", "_"): name}),
        percent=getattr(module, "PERCENT", False),
        counts=getattr(module, "COUNTS", ()),
        from_training=getattr(module, "FROM_TRAINING", ()),
        json_only=getattr(module, "JSON_ONLY", ()),
        lower_is_better=getattr(module, "LOWER_IS_BETTER", False),
    )


def sorted_columns(metrics: list[str] | None = None) -> list[CaptionColumns]:
    """The columns of ``metrics``, by default of all, in table order. Raises UnknownName."""
    names = catalog.names("caption_metric") if metrics is None else metrics
    return sorted(map(caption_columns, names), key=lambda columns: (columns.order, columns.metric))

"""The geometry of line charts; ``templates/macros.html.jinja`` draws them as SVG in the colors of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 210  # units of the SVG view box
LEFT, RIGHT, TOP, BOTTOM = 42, 12, 12, 30  # margins of the plot area
NUM_COLORS = 6  # classes of curves that the styles have a color for
_NUM_TICKS = 4

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A line through ``points``. The n-th curve of a chart has the CSS class ``cN``: ``c0``, ``c1``..."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Tick:
    """A labeled position on an axis."""

    label: str
    position: float


@dataclass(frozen=True)
class Chart:
    """A chart in units of the view box. ``summary`` is its alternative text."""

    title: str
    x_label: str
    summary: str
    curves: Sequence[Curve]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def plot(title: str, x_label: str, curves: Sequence[Curve], top: float | None = None) -> Chart | None:
    """A chart whose y axis goes from 0 to ``top``, by default to the largest value; None if there are no points.

    Values that are not finite are left out.
    """
    finite = [Curve(c.name, [(x, y) for x, y in c.points if math.isfinite(x) and math.isfinite(y)]) for c in curves]
    kept = [curve for curve in finite if curve.points]
    if not kept:
        return None
    xs = [x for curve in kept for x, _ in curve.points]
    axes = _Axes(min(xs), max(xs), _rounded_up(top or max(y for curve in kept for _, y in curve.points)))
    levels = [axes.top * number / _NUM_TICKS for number in range(_NUM_TICKS + 1)]
    return Chart(
        title,
        x_label,
        f"{title}: " + ", ".join(f"{curve.name} ends at {curve.points[-1][1]:.3g}" for curve in kept),
        [Curve(curve.name, [axes.locate(point) for point in curve.points]) for curve in kept],
        [Tick(f"{x:.3g}" if x < 1000 else f"{x:g}", axes.x(x)) for x in dict.fromkeys((axes.first, axes.last))],
        [Tick(f"{y:g}", axes.y(y)) for y in levels],
    )


@dataclass(frozen=True)
class _Axes:
    """Maps values to positions in the view box."""

    first: float
    last: float
    top: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - self.first) / ((self.last - self.first) or 1)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.top

    def locate(self, point: Point) -> Point:
        return self.x(point[0]), self.y(min(max(point[1], 0.0), self.top))


def _rounded_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(float(f"{n * power:g}") for n in (1, 2, 4, 6, 8, 10) if n * power >= value * (1 - 1e-9))

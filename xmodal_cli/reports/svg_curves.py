"""A training's curves as SVG, to stand in a page: colours are the page's own, no script draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 360, 210  # units of the drawing; it grows and shrinks with the page
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 12, 12, 30
_NUM_TICKS = 4

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A line through ``points``, called ``name``; the page has a class for each number of a curve, ``c0``, ``c1``..."""

    name: str
    points: Points


def chart(title: str, x_label: str, curves: Sequence[Curve], top: float | None = None) -> str:
    """An ``<figure>`` with the curves, from 0 to ``top`` or to the largest value; empty where there is nothing to draw.

    Values that are not finite are left out.
    """
    kept = [Curve(c.name, [(x, y) for x, y in c.points if math.isfinite(x) and math.isfinite(y)]) for c in curves]
    kept = [curve for curve in kept if curve.points]
    if not kept:
        return ""
    xs = [x for curve in kept for x, _ in curve.points]
    highest = _rounded_up(top or max(y for curve in kept for _, y in curve.points))
    frame = _Frame(min(xs), max(xs), highest)
    lines = "".join(_line(number, curve, frame) for number, curve in enumerate(kept))
    label = escape(f"{title}: " + ", ".join(f"{c.name} ends at {c.points[-1][1]:.3g}" for c in kept))
    legend = "".join(f'<span class="key c{n}">{escape(curve.name)}</span>' for n, curve in enumerate(kept))
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b>{legend}</figcaption>\n'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" font-size="10" fill="currentColor" role="img" aria-label="{label}">\n'
        f"{_grid(frame)}{lines}"
        f'<text class="tick" x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>'
        f"</svg></figure>"
    )


@dataclass(frozen=True)
class _Frame:
    """Where values stand in the drawing."""

    first: float
    last: float
    top: float

    def x(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (value - self.first) / ((self.last - self.first) or 1)

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / self.top


def _grid(frame: _Frame) -> str:
    rows = []
    for number in range(_NUM_TICKS + 1):
        value = frame.top * number / _NUM_TICKS
        y = frame.y(value)
        rows.append(
            f'<line class="rule" stroke="currentColor" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        rows.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value, anchor in ((frame.first, "start"), (frame.last, "end")):
        place = f'x="{frame.x(value):.1f}" y="{HEIGHT - _BOTTOM + 14}"'
        rows.append(f'<text class="tick" {place} text-anchor="{anchor}">{value:g}</text>')
    return "".join(rows) + "\n"


def _line(number: int, curve: Curve, frame: _Frame) -> str:
    points = [(frame.x(x), frame.y(min(max(y, 0.0), frame.top))) for x, y in curve.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    line = f'<polyline fill="none" stroke="currentColor" stroke-width="2" points="{path}"/>'
    return f'<g class="c{number}">{line}<circle fill="currentColor" cx="{x:.1f}" cy="{y:.1f}" r="3"/></g>\n'


def _rounded_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(float(f"{n * power:g}") for n in (1, 2, 4, 6, 8, 10) if n * power >= value * (1 - 1e-9))

"""Line charts: positions of points and ticks, the range of the axis, the SVG of the template."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest

from xmodal_cli.reports.charts import Curve, plot
from xmodal_cli.reports.pages import environment


def svg_of(curves: list[Curve], top: float | None = None) -> ElementTree.Element:
    source = '{% from "macros.html.jinja" import chart %}{{ chart(drawn) }}'
    html = environment().from_string(source).render(drawn=plot("up & down", "epoch", curves, top))
    assert "up &amp; down" in html
    return ElementTree.fromstring(html[html.index("<svg") : html.index("</figure>")])


def test_curves_end_where_their_values_are() -> None:
    svg = svg_of([Curve("a", [(1, 0.0), (3, 50.0)]), Curve("b", [(1, 100.0), (2, 25.0)])], top=100)
    lines = [[tuple(map(float, p.split(","))) for p in line.attrib["points"].split()] for line in svg.iter("polyline")]
    ((left, bottom), (right, middle)), ((_, top), (between, quarter)) = lines
    assert middle == pytest.approx((bottom + top) / 2)
    assert quarter == pytest.approx(bottom + (top - bottom) / 4)
    assert between == pytest.approx((left + right) / 2)
    assert top < bottom  # y grows downwards in SVG
    assert svg.attrib["aria-label"] == "up & down: a ends at 50, b ends at 25"
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in svg.iter("circle")]
    assert circles == [(right, middle), (between, quarter)]


def test_values_outside_of_the_axis_are_clipped() -> None:
    chart = plot("t", "x", [Curve("a", [(0, -5.0), (1, 500.0)])], top=100)
    assert chart is not None
    assert [y for _, y in chart.curves[0].points] == [chart.y_ticks[0].position, chart.y_ticks[-1].position]


@pytest.mark.parametrize(("largest", "top"), [(0.31, 0.4), (4.2, 6), (10.0, 10), (88.0, 100), (0.0, 1)])
def test_the_axis_includes_the_largest_value(largest: float, top: float) -> None:
    svg = svg_of([Curve("a", [(0, largest), (1, 0.0)])])
    ticks = [float(tick.text or "") for tick in svg.iter("text") if tick.attrib.get("class") == "y-tick"]
    assert max(ticks) == pytest.approx(top)


def test_values_that_are_not_finite_are_left_out() -> None:
    assert plot("t", "x", [Curve("a", [(0, math.nan), (1, math.inf)]), Curve("b", [])]) is None
    chart = plot("t", "x", [Curve("a", [(2, 1.0)])])  # one point is drawn
    assert chart is not None
    assert [tick.label for tick in chart.x_ticks] == ["2"]

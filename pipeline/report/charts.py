"""Line charts as SVG that takes its colours from the page, light or dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 34, 12, 34
MAX_TIME_MARKS = 6


@dataclass(frozen=True, slots=True)
class Line:
    """Values over hours, minutes or seconds of a run."""

    label: str
    times_s: Sequence[float]
    values: Sequence[float]


def line_chart(line: Line, highest: float | None = None) -> str:
    """One line over time with its axes; empty where there is nothing to draw."""
    if len(line.values) < 2:
        return ""
    top = _round_up(max(line.values)) if highest is None else highest
    end_s = max(line.times_s)
    points = [
        (_x(time_s, end_s), _y(value, top))
        for time_s, value in zip(line.times_s, line.values, strict=True)
    ]
    parts = [*_value_axis(top), *_time_axis(end_s), _area(points), _path(points)]
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="chart" role="img" '
        f'aria-label="{escape(line.label)}">{"".join(parts)}</svg>'
    )


def _x(time_s: float, end_s: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (time_s / end_s if end_s else 0)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top if top else 0)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return f'<path class="line" d="M{_joined(points)}"/>'


def _area(points: Sequence[tuple[float, float]]) -> str:
    floor_y = HEIGHT - BOTTOM
    edges = [(points[0][0], floor_y), *points, (points[-1][0], floor_y)]
    return f'<path class="area" d="M{_joined(edges)}Z"/>'


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _value_axis(top: float) -> list[str]:
    return [_value_mark(top * quarter / 4, top) for quarter in range(5)]


def _value_mark(value: float, top: float) -> str:
    y = _y(value, top)
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:,.4g}</text>'
    )


def _time_axis(end_s: float) -> list[str]:
    unit, unit_s = _time_unit(end_s)
    step = _round_up(end_s / unit_s / MAX_TIME_MARKS)
    num_marks = int(end_s / unit_s / step)
    return [_time_mark(mark * step, unit, unit_s, end_s) for mark in range(1, num_marks + 1)]


def _time_mark(time: float, unit: str, unit_s: float, end_s: float) -> str:
    x = _x(time * unit_s, end_s)
    return f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{time:.3g} {unit}</text>'


def _time_unit(end_s: float) -> tuple[str, float]:
    if end_s >= 7200:
        return "h", 3600.0
    return ("min", 60.0) if end_s >= 120 else ("s", 1.0)


def _round_up(value: float) -> float:
    """The next number that divides well into parts people read."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(value))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value)

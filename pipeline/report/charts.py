"""Line charts of a run as SVG: inside the page, where CSS colours them, or as a file.

Progress becomes throughput: seconds of audio transcribed per second of the run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from nightscribe.report.content import ProgressPoint

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 34, 12, 34
MAX_TIME_MARKS = 6
# Work is counted when a shard is done, in bursts: more points than this would show the bursts.
MAX_POINTS = 60
TITLE_HEIGHT = 28
# In the page, the charts take their colours from its style sheet.
FILE_CSS = (
    "text{font:12px system-ui,sans-serif;fill:#60666d}.title{font-weight:bold}.paper{fill:#fff}"
    ".line{fill:none;stroke:#2f55d4;stroke-width:2}.area{fill:#2f55d4;fill-opacity:.12}"
    ".grid{stroke:#e2e3df}"
)


@dataclass(frozen=True, slots=True)
class ThroughputPoint:
    """The throughput and occupancy of one interval of a run, at its middle."""

    elapsed_s: float
    times_real_time: float
    occupancy: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """Values over the time of a run."""

    label: str
    times_s: Sequence[float]
    values: Sequence[float]


def throughput_points(progress: Sequence[ProgressPoint]) -> list[ThroughputPoint]:
    """The throughput of at most MAX_POINTS intervals of the run."""
    points = sorted(progress, key=lambda point: point.elapsed_s)
    return [
        _throughput(interval)
        for interval in _intervals(points)
        if interval[-1].elapsed_s > interval[0].elapsed_s
    ]


def throughput_series(progress: Sequence[ProgressPoint]) -> Series:
    points = throughput_points(progress)
    values = [point.times_real_time for point in points]
    return Series("Throughput, times real time", [point.elapsed_s for point in points], values)


def occupancy_series(progress: Sequence[ProgressPoint]) -> Series:
    known = [
        (point.elapsed_s, 100 * point.occupancy)
        for point in throughput_points(progress)
        if point.occupancy is not None
    ]
    times_s, values = [time_s for time_s, _ in known], [value for _, value in known]
    return Series("Slot occupancy, percent", times_s, values)


def throughput_svg(title: str, progress: Sequence[ProgressPoint]) -> str:
    """The throughput and the occupancy of a run as one SVG file."""
    panels = [_panel(throughput_series(progress)), _panel(occupancy_series(progress), 100.0)]
    placed = [
        f'<g transform="translate(0,{TITLE_HEIGHT + index * (TITLE_HEIGHT + HEIGHT)})">{panel}</g>'
        for index, panel in enumerate(filter(None, panels))
    ]
    height = TITLE_HEIGHT + len(placed) * (TITLE_HEIGHT + HEIGHT)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}"><style>{FILE_CSS}</style>'
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
        f'<text class="title" x="8" y="20">{escape(title)}</text>{"".join(placed)}</svg>\n'
    )


def line_chart(series: Series, highest: float | None = None) -> str:
    """One series over time with its axes; empty if there are fewer than two points."""
    drawing = _drawing(series, highest)
    return drawing and (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="chart" role="img" '
        f'aria-label="{escape(series.label)}">{drawing}</svg>'
    )


def _panel(series: Series, highest: float | None = None) -> str:
    """A chart of the SVG file, below its label."""
    drawing = _drawing(series, highest)
    return drawing and (
        f'<text x="8" y="20">{escape(series.label)}</text>'
        f'<g transform="translate(0,{TITLE_HEIGHT})">{drawing}</g>'
    )


def _drawing(series: Series, highest: float | None) -> str:
    if len(series.values) < 2:
        return ""
    top = _round_up(max(series.values)) if highest is None else highest
    end_s = max(series.times_s)
    points = [
        (_x(time_s, end_s), _y(value, top))
        for time_s, value in zip(series.times_s, series.values, strict=True)
    ]
    return "".join([*_value_axis(top), *_time_axis(end_s), _area(points), _path(points)])


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
    """The next larger number that makes readable axis marks."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** floor(log10(value))
    return next(step * unit for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * unit >= value)


def _intervals(points: Sequence[ProgressPoint]) -> Iterator[Sequence[ProgressPoint]]:
    """Runs of points, each beginning with the last point of the run before."""
    stride = max(ceil(len(points) / MAX_POINTS), 1)
    for first in range(0, len(points) - 1, stride):
        yield points[first : first + stride + 1]


def _throughput(interval: Sequence[ProgressPoint]) -> ThroughputPoint:
    first, last = interval[0], interval[-1]
    known = [point.occupancy for point in interval[1:] if point.occupancy is not None]
    return ThroughputPoint(
        (first.elapsed_s + last.elapsed_s) / 2,
        (last.audio_s - first.audio_s) / (last.elapsed_s - first.elapsed_s),
        sum(known) / len(known) if known else None,
    )

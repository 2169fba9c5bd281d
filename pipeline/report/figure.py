"""The throughput of a run as a PNG, for chat and mail."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nightscribe.report.content import Progress
from nightscribe.report.throughput import Rate, rates

SIZE_INCHES = (9.0, 4.0)
DOTS_PER_INCH = 150
SPEED_COLOUR, OCCUPANCY_COLOUR = "#2f55d4", "#b45a0c"


def throughput_png(title: str, progress: Sequence[Progress]) -> bytes:
    """Throughput on the left axis, occupancy on the right, over minutes."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    speed = figure.subplots()
    speed.set_title(title, loc="left", weight="bold", pad=14)
    moments = rates(progress)
    _draw_speed(speed, moments)
    occupancy = speed.twinx()
    _draw_occupancy(occupancy, moments)
    for axes in (speed, occupancy):
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.tick_params(length=0)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH)
    return png.getvalue()


def _draw_speed(axes: Axes, moments: Sequence[Rate]) -> None:
    minutes = [rate.elapsed_s / 60 for rate in moments]
    times_real_time = [rate.times_real_time for rate in moments]
    axes.plot(minutes, times_real_time, color=SPEED_COLOUR, lw=2)
    axes.fill_between(minutes, times_real_time, color=SPEED_COLOUR, alpha=0.12, lw=0)
    axes.set(xlabel="minutes", ylim=(0, None), xlim=(0, None))
    axes.set_ylabel("times real time", color=SPEED_COLOUR)
    axes.grid(axis="y", alpha=0.25)


def _draw_occupancy(axes: Axes, moments: Sequence[Rate]) -> None:
    told = [(rate.elapsed_s / 60, rate.occupancy) for rate in moments if rate.occupancy is not None]
    minutes, percent = [at for at, _ in told], [100 * share for _, share in told]
    axes.plot(minutes, percent, color=OCCUPANCY_COLOUR, lw=1.2, ls="--")
    axes.set_ylabel("occupancy of the slots, %", color=OCCUPANCY_COLOUR)
    axes.set(ylim=(0, 105))

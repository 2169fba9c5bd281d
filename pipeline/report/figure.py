"""The throughput of a run as a PNG, for chat and mail."""

import io
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.report.content import Progress
from pipeline.report.throughput import rates

SIZE_INCHES = (9.0, 4.0)
DOTS_PER_INCH = 150
SPEED_COLOUR, OCCUPANCY_COLOUR = "#2f55d4", "#b45a0c"


def throughput_png(title: str, progress: Sequence[Progress]) -> bytes:
    """Throughput on the left axis, occupancy on the right, over minutes."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    speed = figure.subplots()
    moments = rates(progress)
    minutes = [rate.elapsed_s / 60 for rate in moments]
    times_real_time = [rate.times_real_time for rate in moments]
    speed.plot(minutes, times_real_time, color=SPEED_COLOUR, lw=2)
    speed.fill_between(minutes, times_real_time, color=SPEED_COLOUR, alpha=0.12, lw=0)
    speed.set_title(title, loc="left", weight="bold", pad=14)
    speed.set(xlabel="minutes", ylim=(0, None), xlim=(0, None))
    speed.set_ylabel("times real time", color=SPEED_COLOUR)
    speed.grid(axis="y", alpha=0.25)
    occupancy = speed.twinx()
    told = [rate for rate in moments if rate.occupancy is not None]
    at_minutes = [rate.elapsed_s / 60 for rate in told]
    shares = [100 * (rate.occupancy or 0.0) for rate in told]
    occupancy.plot(at_minutes, shares, color=OCCUPANCY_COLOUR, lw=1.2, ls="--")
    occupancy.set_ylabel("occupancy of the slots, %", color=OCCUPANCY_COLOUR)
    occupancy.set(ylim=(0, 105))
    for axes in (speed, occupancy):
        axes.spines[["top", "left", "right"]].set_visible(False)
        axes.tick_params(length=0)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH)
    return png.getvalue()

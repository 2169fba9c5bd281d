"""The throughput of a run as a PNG, for chat and mail."""

import io
from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.report.content import Progress
from pipeline.report.throughput import rates

SIZE_INCHES = (9.0, 4.0)
DOTS_PER_INCH = 150


def throughput_png(title: str, progress: Sequence[Progress]) -> bytes:
    """Throughput on the left axis, occupancy on the right, over minutes."""
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    speed = figure.subplots()
    moments = rates(progress)
    minutes = [rate.elapsed_s / 60 for rate in moments]
    speed.plot(minutes, [rate.times_real_time for rate in moments], color="#3257d6", lw=2)
    speed.set(title=title, xlabel="minutes", ylabel="times real time", ylim=(0, None))
    speed.grid(alpha=0.25)
    occupancy = speed.twinx()
    occupancy.plot(minutes, [100 * rate.occupancy for rate in moments], color="#c2620e", lw=1)
    occupancy.set(ylabel="occupancy, %", ylim=(0, 105))
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH)
    return png.getvalue()

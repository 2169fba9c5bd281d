"""Plots the log of a training: loss, accuracy, word error rate and speed by step.

matplotlib is imported where a plot is drawn: that takes seconds, which the help does without.
"""

import json
from pathlib import Path
from typing import Any

CURVES = {
    "text": "nats per text token",
    "accuracy": "text token accuracy",
    "wer": "word error rate, development set",
    "speed": "seconds of audio per second",
}


def plot_log(log: Path, picture: Path) -> None:
    """One panel per logged curve, as PNG or SVG by the name of the picture."""
    from matplotlib.figure import Figure

    lines = _last_lines(log)
    curves = [name for name in CURVES if any(name in line for line in lines)]
    figure = Figure(figsize=(7, 2.4 * len(curves)), layout="constrained")
    panels = figure.subplots(len(curves), squeeze=False)[:, 0]
    for panel, name in zip(panels, curves, strict=True):
        points = [(line["step"], line[name]) for line in lines if name in line]
        panel.plot(*zip(*points, strict=True), marker="." if len(points) < 30 else "")
        panel.set_ylabel(CURVES[name])
        panel.grid(alpha=0.3)
    panels[-1].set_xlabel("step")
    figure.savefig(picture)


def _last_lines(log: Path) -> list[dict[str, Any]]:
    """The lines of a log by step; a resumed training has logged some steps twice."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    if not lines:
        raise ValueError(f"{log} has no lines to plot")
    return [line for _, line in sorted({line["step"]: line for line in lines}.items())]

#!/usr/bin/env python3
"""Draws the figures of one work as an SVG.

    plot.py LINES.jsonl [MORE.jsonl ...] PLOT.svg

Each file is what a run leaves under target/bench; those of several runs are put together. A bar is the
median over the repetitions, the line on it goes from the least to the greatest, and the scale is
logarithmic: from the fastest to the slowest it is more than a hundredfold.

It needs matplotlib (`pip install matplotlib`). The same version makes the same file of the same figures.
"""

import json
import statistics
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

OURS, THEIRS = "#1f6f8b", "#b8b8b8"


def read(paths):
    """The machine of the first file, the unit, and the figures of each contender."""
    machine, unit, figures = None, "", {}
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in map(json.loads, lines):
                if line["kind"] == "machine":
                    machine = machine or line
                elif "figure" in line:
                    unit = f'{line["work"]}, {line["unit"]}'
                    figures.setdefault(line["contender"], []).append(line["figure"])
    return machine, unit, figures


def draw(machine, unit, figures, path):
    """The whole picture."""
    # The best stands on top: less of a time, more of a rate.
    is_time = unit.endswith("us")
    rows = sorted(figures.items(), key=lambda row: statistics.median(row[1]), reverse=not is_time)
    names = [name for name, _ in rows]
    middles = [statistics.median(values) for _, values in rows]
    least = [middle - min(values) for middle, (_, values) in zip(middles, rows)]
    most = [max(values) - middle for middle, (_, values) in zip(middles, rows)]
    colors = [OURS if name.startswith("nape") else THEIRS for name in names]

    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "nape", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(9.4, 1.2 + 0.26 * len(rows)))
    axes.barh(range(len(rows)), middles, height=0.66, color=colors, zorder=2)
    axes.errorbar(middles, range(len(rows)), xerr=[least, most], fmt="none", ecolor="#333333", elinewidth=1, zorder=3)
    for at, (middle, above) in enumerate(zip(middles, most)):
        axes.annotate(
            f"{middle:,.4g}", (middle + above, at), (6, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_xscale("log")
    axes.set_xlim(min(map(min, figures.values())) / 2, max(map(max, figures.values())) * 3)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.grid(axis="x", color="#dddddd", zorder=0)
    axes.tick_params(axis="y", length=0)
    for edge in ("top", "right", "left"):
        axes.spines[edge].set_visible(False)
    about = f'{machine["cpu"]}, {machine["cores"]} cores, Linux {machine["kernel"]}, {machine["rustc"]}'
    axes.set_title(f"{unit}\n", loc="left", fontsize=12)
    axes.text(0, 1.008, about, transform=axes.transAxes, fontsize=8.5, color="#666666", va="bottom")
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1, facecolor="white", metadata={"Date": None})


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    machine, unit, figures = read(sys.argv[1:-1])
    if machine is None or not figures:
        sys.exit("there are no figures in there")
    draw(machine, unit, figures, sys.argv[-1])


main()

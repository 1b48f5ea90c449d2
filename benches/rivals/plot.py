#!/usr/bin/env python3
"""Draws the figures of one work as an SVG.

    plot.py LINES.jsonl [MORE.jsonl ...] PLOT.svg

Each file is what a run leaves under target/bench; those of several runs are put together. A bar is the
median over the repetitions, the line on it goes from the least to the greatest, and the scale is
logarithmic: from the fastest to the slowest it is more than a hundredfold.
"""

import json
import math
import statistics
import sys
from html import escape

ROW, LEFT, WIDTH, TOP = 24, 250, 560, 64
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


def ticks(low, high):
    """1, 10, 100 ... as far as they are needed."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def bar(index, name, values, place):
    """One contender: its name, its bar, its spread and its figure."""
    middle = statistics.median(values)
    y = TOP + index * ROW
    color = OURS if name.startswith("nape") else THEIRS
    start, end, low, high = place(None), place(middle), place(min(values)), place(max(values))
    return [
        f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{start}" y="{y + 3}" width="{end - start:.1f}" height="{ROW - 8}" fill="{color}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + 11}" y2="{y + 11}" stroke="#333"/>',
        f'<text x="{max(end, high) + 6:.1f}" y="{y + 15}">{middle:,.4g}</text>',
    ]


def draw(machine, unit, figures):
    """The whole picture."""
    # The best stands on top: less of a time, more of a rate.
    is_time = unit.endswith("us")
    rows = sorted(figures.items(), key=lambda row: statistics.median(row[1]), reverse=not is_time)
    marks = ticks(min(map(min, figures.values())), max(map(max, figures.values())))
    low, high = math.log10(marks[0]), math.log10(marks[-1])
    place = lambda value: LEFT if value is None else LEFT + WIDTH * (math.log10(value) - low) / (high - low)
    bottom = TOP + len(rows) * ROW
    about = f'{machine["cpu"]}, {machine["cores"]} cores, Linux {machine["kernel"]}, {machine["rustc"]}'
    size = f'width="{LEFT + WIDTH + 90}" height="{bottom + 30}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="8" y="22" font-size="15">{escape(unit)}</text>',
        f'<text x="8" y="42" fill="#666">{escape(about)}</text>',
    ]
    for mark in marks:
        x = place(mark)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#666">{mark:,g}</text>')
    for index, (name, values) in enumerate(rows):
        parts += bar(index, name, values, place)
    return "\n".join(parts + ["</svg>", ""])


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    machine, unit, figures = read(sys.argv[1:-1])
    if not figures:
        sys.exit("there are no figures in there")
    with open(sys.argv[-1], "w", encoding="utf-8") as picture:
        picture.write(draw(machine, unit, figures))


main()

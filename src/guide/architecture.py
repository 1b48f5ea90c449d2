#!/usr/bin/env python3
"""Draws the picture of the architecture that README shows: architecture.py architecture.svg

It needs matplotlib (`pip install matplotlib`). The same version makes the same file.
"""

import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

BLUE, PALE, GREY, INK = "#1f6f8b", "#e3eff3", "#b8b8b8", "#333333"
# Each layer of a side: its height, what it is called, and what it does.
LAYERS = [
    (1.25, "your code", ["calls: clients and handles", "serves: handlers, streams, topics"]),
    (1.25, "api", ["names to handlers: several APIs, one ApiArb", "each with its workers and its queue"]),
    (1.25, "link", ["every call under way, its deadline, its one end", "windows, limits, who reads, cancels"]),
    (1.0, "transport", ["whole frames, both ways"]),
]
GAP, WIDTH, MIDDLE = 0.22, 5.2, 4.2


def box(axes, x, y, width, height, face, edge):
    """A box with round corners."""
    style = "round,pad=0,rounding_size=0.12"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, facecolor=face, edgecolor=edge))


def side(axes, x, title, below):
    """One side from the top down; gives the middle of each of its layers."""
    height = sum(layer[0] + GAP for layer in LAYERS) + 1.2
    box(axes, x - 0.3, -height, WIDTH + 0.6, height, "white", BLUE)
    axes.text(x + WIDTH / 2, -0.42, title, ha="center", va="center", fontsize=13, fontweight="bold", color=BLUE)
    y, middles = -0.8, []
    for tall, name, lines in LAYERS:
        y -= tall
        mine = name == "your code"
        box(axes, x, y, WIDTH, tall, "white" if mine else PALE, GREY if mine else BLUE)
        axes.text(x + 0.15, y + tall - 0.25, name, va="center", fontsize=10, fontweight="bold", color=INK)
        for line, text in enumerate(lines):
            at = y + tall - 0.58 - 0.36 * line
            axes.text(x + WIDTH / 2, at, text, ha="center", va="center", fontsize=9, color=INK)
        middles.append(y + tall / 2)
        y -= GAP
    axes.text(x + WIDTH / 2, y - 0.12, below, ha="center", va="center", fontsize=9, style="italic", color=INK)
    return middles, height


def arrow(axes, y, left, right, text, under, line):
    """Both ways between the sides, with what goes there."""
    style = {"arrowstyle": "<|-|>", "color": BLUE, "linestyle": line, "linewidth": 1.6, "mutation_scale": 14}
    axes.annotate("", (right, y), (left, y), arrowprops=style)
    axes.text((left + right) / 2, y + 0.2, text, ha="center", va="center", fontsize=9, color=INK)
    for number, words in enumerate(under):
        at = y - 0.24 - 0.34 * number
        axes.text((left + right) / 2, at, words, ha="center", va="center", fontsize=8.5, color="#666666")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "nape", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(11.8, 6.0))
    right = WIDTH + MIDDLE
    middles, height = side(axes, 0, "Head", "starts the other, watches it, starts it again")
    side(axes, right, "Neck", "was started, or connects")
    code, _, link, transport = middles
    left, far = WIDTH + 0.05, right - 0.05
    arrow(axes, code, left, far, "both call, both serve", ["calls, answers, events,", "items of streams and topics"], "solid")
    arrow(axes, link, left, far, "in one process", ["values move,", "nothing is encoded"], "dashed")
    wires = ["ipc-channel, a pipe, shared", "memory, a Unix socket, TCP"]
    arrow(axes, transport, left, far, "between two processes", wires, "solid")
    axes.set_xlim(-0.4, right + WIDTH + 0.4)
    axes.set_ylim(-height - 0.1, 0.1)
    axes.set_aspect("equal")
    axes.axis("off")
    figure.savefig(sys.argv[1], bbox_inches="tight", pad_inches=0.05, facecolor="white", metadata={"Date": None})


main()

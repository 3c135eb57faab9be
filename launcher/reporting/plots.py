"""A report's plots, by matplotlib, as SVG that stands in a page: its text takes the page's colour, light or dark.

A mode has its colour and line, a shape its marker, a stage its hatch, and the numbers stand beside each plot: nothing
is told by colour alone.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from launcher.reporting.rows import Row

INK = "#010203"  # stands for the page's own colour of text, and is replaced by it
# Okabe and Ito's colours, as far as each has a contrast of 3:1 to white and to the page's dark ground.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b5689a", "#8a7a00", "#7f7f7f", "#3f8fd0")
MARKERS, LINES, HATCHES = "osD^vPX", ("-", "--", "-.", ":"), ("", "//", "..", "xx", "\\\\", "++", "oo")
STAGES = ("load", "encode", "denoise", "decode")
SETTINGS: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "font.family": "sans-serif",
    "font.size": 10,
    "hatch.linewidth": 0.6,
    "hatch.color": INK,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
Value = Callable[[Row], float | None]


@dataclass(frozen=True)
class Plot:
    """One plot: its title, what it shows in words, and the SVG."""

    title: str
    told: str
    svg: str


def plots(rows: Sequence[Row]) -> list[Plot]:
    """All plots for which there are two points or more."""
    done = [row for row in rows if row.status == "done" and row.step]
    found = [
        _lines("Step time and ranks", "ranks", "seconds a step", done, lambda row: row.ranks, lambda row: row.step),
        _lines("Peak memory and ranks", "ranks", "MiB on the fullest rank", done, lambda row: row.ranks, _mebibytes),
        _lines("Step time and tokens", "tokens", "seconds a step", done, lambda row: row.tokens, lambda row: row.step),
        _speedup(done),
        _stages(done),
    ]
    return [plot for plot in found if plot is not None]


def _mebibytes(row: Row) -> float | None:
    return None if row.peak is None else row.peak / 2**20


def _series(rows: Sequence[Row], x: Value, y: Value) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """Points of each mode and shape (and model, if there are several), the best of those that share an x."""
    best: dict[tuple[str, str], dict[float, float]] = {}
    several = len({row.model for row in rows}) > 1
    for row in rows:
        at, value = x(row), y(row)
        if at is None or value is None:
            continue
        variant = [row.model] if several else []
        variant += [row.shape] if at != row.tokens else [f"{row.ranks or 1} ranks"]
        known = best.setdefault((row.mode, " ".join(variant)), {})
        known[at] = min(value, known.get(at, value))
    return {name: sorted(points.items()) for name, points in best.items()}


def _lines(title: str, across: str, up: str, rows: Sequence[Row], x: Value, y: Value) -> Plot | None:
    series = _series(rows, x, y)
    if len({at for points in series.values() for at, _ in points}) < 2:
        return None
    modes, variants = (list(dict.fromkeys(names)) for names in zip(*series, strict=True))
    named = {key: key[0] if len(variants) == 1 else ", ".join(key) for key in series}

    def draw(axes: Axes) -> None:
        for (mode, variant), points in series.items():
            style = _style(modes.index(mode), variants.index(variant))
            axes.plot(*zip(*points, strict=True), label=named[mode, variant], **style)
        top = max(value for points in series.values() for _, value in points)
        axes.set(xlabel=across, ylabel=up, ylim=(0, 1.08 * top))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes, len(series))

    told = "; ".join(
        f"{named[key]}: {', '.join(f'{at:g} {across} {value:.3g}' for at, value in points)}"
        for key, points in series.items()
    )
    return Plot(title, f"{up}, by {across}. {told}", _svg(draw, title, 3.2 + 0.2 * (len(series) // 3)))


def _legend(axes: Axes, count: int) -> None:
    """Below the plot, where it hides nothing."""
    axes.legend(frameon=False, fontsize=8.5, ncols=min(3, count), loc="upper center", bbox_to_anchor=(0.5, -0.18))


def _speedup(rows: Sequence[Row]) -> Plot | None:
    points = [(row.ideal, row.speedup, row) for row in rows if row.ideal and row.speedup and row.ideal > 1]
    if not points:
        return None

    def draw(axes: Axes) -> None:
        top = max(ideal for ideal, _, _ in points)
        axes.plot([1, top], [1, top], color=INK, linewidth=1, label="ideal")
        names = dict.fromkeys(row.mode for _, _, row in points)
        for number, name in enumerate(names):
            own = [(ideal, speedup) for ideal, speedup, row in points if row.mode == name]
            axes.plot(*zip(*own, strict=True), label=name, **(_style(number, number) | {"linestyle": ""}))
        axes.set(xlabel="times as many ranks as the baseline", ylabel="times as fast", ylim=(0, None))
        _legend(axes, len(names) + 1)

    told = "; ".join(f"{row.label}: {speedup:.2f} of {ideal:g}" for ideal, speedup, row in points)
    return Plot(
        "Speed-up against ideal",
        f"How many times as fast as the baseline. {told}",
        _svg(draw, "Speed-up against ideal"),
    )


def _stages(rows: Sequence[Row]) -> Plot | None:
    shown = [row for row in rows if any(row.times.get(stage) for stage in STAGES)][:24]
    if not shown:
        return None

    def draw(axes: Axes) -> None:
        left = [0.0] * len(shown)
        for number, stage in enumerate(STAGES):
            widths = [row.times.get(stage, 0.0) for row in shown]
            axes.barh(range(len(shown)), widths, left=left, label=stage, color=COLOURS[number], hatch=HATCHES[number])
            left = [before + width for before, width in zip(left, widths, strict=True)]
        names = [row.label if len(row.label) < 36 else row.label[:34] + "..." for row in shown]
        axes.set(yticks=range(len(shown)), yticklabels=names, xlabel="seconds")
        axes.invert_yaxis()
        axes.legend(frameon=False, fontsize=9, ncols=len(STAGES), loc="lower center", bbox_to_anchor=(0.4, 1))

    told = "; ".join(
        f"{row.label}: {', '.join(f'{stage} {row.times.get(stage, 0):.3g}' for stage in STAGES)}" for row in shown
    )
    height = 1.4 + 0.32 * len(shown)
    return Plot("Where time goes", f"Seconds of each stage on rank 0. {told}", _svg(draw, "Where time goes", height))


def _style(mode: int, variant: int) -> dict[str, Any]:
    return {
        "color": COLOURS[mode % len(COLOURS)],
        "linestyle": LINES[mode % len(LINES)],
        "marker": MARKERS[variant % len(MARKERS)],
        "markersize": 6,
    }


def _svg(draw: Callable[[Axes], None], title: str, height: float = 3.4) -> str:
    """A figure as an <svg> element."""
    with rc_context(SETTINGS):
        figure = Figure(figsize=(6.4, height), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.patch.set_visible(False)
        axes.grid(visible=True, color="#808080", alpha=0.25, linewidth=0.8)
        axes.set_axisbelow(True)
        draw(axes)
        text = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    size = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', svg)
    if size:
        svg = svg.replace(size[0], f'role="img" aria-label="{escape(title)}" focusable="false"', 1)
    prefix = re.sub(r"\W+", "-", title.lower()) + "-"  # the plots of one page share no id
    return re.sub(r'(id="|xlink:href="#|url\(#)', rf"\g<1>{prefix}", svg)

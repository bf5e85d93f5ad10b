"""Charts of a report, drawn as SVG in the colours of the page."""

import io
import re
from collections.abc import Callable

import matplotlib
import numpy as np
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from .parts import Curve, Spread

# (light mode, dark mode). Readers with colour-blindness can distinguish the colours.
PALETTE = (
    ("#0b6fb8", "#5ab4f0"),
    ("#c2540a", "#ff9d4d"),
    ("#00805f", "#35cfa3"),
    ("#a33a7c", "#f08fc8"),
    ("#6b5b00", "#e0cd4a"),
    ("#555555", "#bbbbbb"),
)
_TEXT_STAND_IN = "#0d0dfe"
# Number of pieces of a long curve; the first, last, smallest and largest value of each are drawn. A chart is about 500
# pixels wide.
_PIECES = 250
# Larger values leave a gap, like values that are not finite: a float could not hold the width of the axis
_LARGEST = 1e300


def draw_curve(curve: Curve) -> str:
    """Draw a chart as an SVG element for an HTML page.

    Its lines have the colours of the page's CSS variables ``--series-0``, ``--series-1`` and so on. Everything else has
    the colour ``currentColor`` on a transparent background. The chart has no legend; :func:`legend` returns it.

    Args:
        curve (Curve): The chart.

    Returns:
        str: ``<svg ...>...</svg>``.
    """

    def plot(axes: Axes) -> None:
        for name, color, is_dashed in legend(curve):
            xs, ys = thin(*curve.series[name])
            ys = np.where(np.abs(ys) <= _LARGEST, ys, np.nan)
            axes.plot(
                xs,
                ys,
                color=_series_stand_in(color),
                linestyle="--" if is_dashed else "-",
                linewidth=1.2 if is_dashed else 1.8,
                marker="o" if len(xs) < 10 else None,
                markersize=4,
            )
        for x in curve.marks:
            axes.axvline(x, linestyle=":", linewidth=1.2, color=_TEXT_STAND_IN, alpha=0.7)
        if curve.log_y:
            axes.set_yscale("log")
        axes.set_xlabel(curve.x_label)
        axes.set_title(curve.y_label, loc="left", fontsize=10)  # a rotated label would make the chart narrower
        places = np.concatenate([[], *(np.asarray(xs, float) for xs, _ in curve.series.values())])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=bool((places == places.round()).all())))
        axes.grid(alpha=0.2)

    return _draw(_describe_curve(curve), curve.title, (4.8, 3.0), plot)


def legend(curve: Curve) -> list[tuple[str, int, bool]]:
    """Return the name of each curve of a chart, the number of its colour, and whether it is dashed."""
    solid = [name for name in curve.series if name not in curve.dashed]
    items = []
    for name in curve.series:
        group = list(curve.dashed) if name in curve.dashed else solid
        items.append((name, group.index(name) % len(PALETTE), name in curve.dashed))
    return items


def draw_spread(spread: Spread) -> str:
    """Draw a chart as an SVG element, see :func:`draw_curve`.

    Args:
        spread (Spread): The chart.

    Returns:
        str: ``<svg ...>...</svg>``.
    """

    def plot(axes: Axes) -> None:
        for row, values in enumerate(spread.groups.values()):
            values = np.asarray(values, float)
            deviation = values.std(ddof=1) if len(values) > 1 else 0.0
            axes.errorbar(values.mean(), row, xerr=deviation, fmt="o", color=_series_stand_in(0), capsize=3)
            axes.plot(values, np.full(len(values), row + 0.22), "|", color=_series_stand_in(1), markersize=7)
        if spread.reference is not None:
            mean = float(np.mean(spread.groups[spread.reference]))
            axes.axvline(mean, linestyle="--", linewidth=1.2, color=_series_stand_in(5))
        axes.set_yticks(range(len(spread.groups)), list(spread.groups))
        axes.set_ylim(len(spread.groups) - 0.4, -0.6)  # the first on top
        axes.set_xlabel(spread.x_label)
        axes.grid(axis="x", alpha=0.2)

    means = ", ".join(f"{name} {np.mean(values):.4g}" for name, values in spread.groups.items())
    summary = f"{spread.title}. Mean {spread.x_label}: {means}"
    return _draw(summary, spread.title, (4.8, 0.8 + 0.32 * len(spread.groups)), plot)


def thin(xs: ArrayLike, ys: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Leave out points of a curve if there are more than a screen can show.

    Args:
        xs (ArrayLike): (N,) positions.
        ys (ArrayLike): (N,) values. Values that are not finite leave a gap, which is kept.

    Returns:
        tuple[np.ndarray, np.ndarray]: The points as float64. Of many points, at most five remain of each of 250 pieces:
        the first, the last, the smallest, the largest and one that is not finite, in their order.
    """
    xs, ys = np.asarray(xs, float), np.asarray(ys, float)
    if len(xs) <= 5 * _PIECES:
        return xs, ys
    kept = []
    for piece in np.array_split(np.arange(len(xs)), _PIECES):
        values = ys[piece]
        finite = piece[np.isfinite(values)]
        chosen = {piece[0], piece[-1]}
        if len(finite):
            chosen |= {finite[ys[finite].argmin()], finite[ys[finite].argmax()]}
        if len(finite) < len(piece):
            chosen.add(piece[~np.isfinite(values)][0])
        kept += sorted(chosen)
    return xs[kept], ys[kept]


def _describe_curve(curve: Curve) -> str:
    """Describe a chart in words, for readers who cannot see it."""
    ends = []
    for name, (xs, ys) in curve.series.items():
        xs, ys = np.asarray(xs, float), np.asarray(ys, float)
        xs, ys = xs[np.isfinite(ys)], ys[np.isfinite(ys)]
        if len(xs):
            ends.append(f"{name}: from {ys[0]:.4g} at {curve.x_label} {xs[0]:g} to {ys[-1]:.4g} at {xs[-1]:g}")
    return ". ".join([curve.title, *ends])


def _draw(summary: str, salt: str, size: tuple[float, float], plot: Callable[[Axes], None]) -> str:
    """Draw a plot as an SVG element in the colours of the page."""
    style = {
        "svg.fonttype": "none",  # keep text as text: it can be searched and has the reader's font
        "svg.hashsalt": salt.encode("ascii", "backslashreplace").decode(),  # same chart, same bytes
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 10.5,  # about the size of the page's small text on half a page or on a phone
    }
    colors = ("axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "text.color", "xtick.color", "ytick.color")
    style.update(dict.fromkeys((*colors, "grid.color"), _TEXT_STAND_IN))
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        plot(figure.subplots())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT_STAND_IN, "currentColor")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # these ids repeat in every chart, and nothing refers to them
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(summary)}"', 1)
    for i in range(len(PALETTE)):
        svg = svg.replace(_series_stand_in(i), f"var(--series-{i})")
    return svg


def _series_stand_in(index: int) -> str:
    """Return a colour for matplotlib that is replaced by a CSS variable later."""
    return f"#0d0e{index:02x}"

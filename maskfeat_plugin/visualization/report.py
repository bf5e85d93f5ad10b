"""Reports: one self-contained HTML page with tables, curves and pictures."""

import base64
import io
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image


@dataclass
class Table:
    """A table of results.

    Args:
        title (str): Heading above it.
        columns (Sequence[str]): Names of the columns; the first column names the row.
        rows (Sequence[Sequence]): Cells. Floats are shown with 4 significant digits, anything else
            as ``str`` gives it.
        caption (str): What to know to read it. Defaults to "".

    Raises:
        ValueError: If a row has more or fewer cells than there are columns.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"Table {self.title!r} has {len(self.columns)} columns, but a row has "
                    f"{len(row)} cells: {list(row)}."
                )


@dataclass
class Curve:
    """A chart of one or more curves.

    Args:
        title (str): Heading above it.
        x_label (str): What is on the x axis, with its unit.
        y_label (str): What is on the y axis, with its unit.
        series (Mapping[str, tuple]): The points (xs, ys) of each curve by its name. Values that are
            not finite leave a gap.
        dashed (Sequence[str]): Names of the series that are baselines, such as the loss of
            predicting the mean target. They are drawn dashed; the n-th of them in the colour of the
            n-th other series. Defaults to ().
        caption (str): What to know to read it. Defaults to "".

    Raises:
        ValueError: If xs and ys of a series differ in length, or ``dashed`` names a series that is
            not there.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, tuple[ArrayLike, ArrayLike]]
    dashed: Sequence[str] = ()
    caption: str = ""

    def __post_init__(self) -> None:
        for name, (xs, ys) in self.series.items():
            if len(xs) != len(ys):
                raise ValueError(f"Curve {self.title!r}: series {name!r} has {len(xs)} x and {len(ys)} y values.")
        unknown = set(self.dashed) - set(self.series)
        if unknown:
            raise ValueError(
                f"Curve {self.title!r}: dashed names {sorted(unknown)}, which are not among the "
                f"series {list(self.series)}."
            )


@dataclass
class Spread:
    """A chart of several values each of some alternatives: every value, their mean and standard deviation.

    Args:
        title (str): Heading above it.
        x_label (str): What the values are, with their unit.
        groups (Mapping[str, Sequence[float]]): The values of each alternative, by its name, from top to bottom.
        reference (str, optional): The alternative that the others are compared with; a dashed line marks its mean.
            Defaults to None.
        caption (str): What to know to read it. Defaults to "".

    Raises:
        ValueError: If an alternative has no values, or the reference is none of them.
    """

    title: str
    x_label: str
    groups: Mapping[str, Sequence[float]]
    reference: str | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        empty = [name for name, values in self.groups.items() if not len(values)]
        if empty:
            raise ValueError(f"Spread {self.title!r}: {empty} have no values.")
        if self.reference is not None and self.reference not in self.groups:
            raise ValueError(f"Spread {self.title!r}: the reference {self.reference!r} is none of {list(self.groups)}.")


@dataclass
class Picture:
    """One image, or a panel of images side by side (below each other where the screen is narrow).

    Args:
        title (str): Heading above it.
        image (np.ndarray | Mapping[str, np.ndarray]): uint8 (H, W, 3) in RGB, or several by label,
            as :func:`make_panel` gives them.
        caption (str): What is to be seen. Defaults to "".

    Raises:
        ValueError: If an image is not uint8 (H, W, 3).
    """

    title: str
    image: np.ndarray | Mapping[str, np.ndarray]
    caption: str = ""

    def __post_init__(self) -> None:
        for label, image in self.parts.items():
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(
                    f"Picture {self.title!r} {label!r}: an image must be uint8 (H, W, 3), got "
                    f"{image.dtype} {image.shape}."
                )

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """The images by label; a single one has the label ""."""
        return self.image if isinstance(self.image, Mapping) else {"": self.image}


def write_report(
    path: str | Path,
    *,
    title: str,
    intro: str = "",
    tables: Sequence[Table] = (),
    curves: Sequence[Curve | Spread] = (),
    panels: Sequence[Picture | tuple] = (),
    environment: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write a report as one HTML file that needs nothing else, offline and on any screen.

    Pictures are embedded as PNG, charts as SVG; the page makes no request and follows the reader's
    light or dark mode. All text is escaped. The file appears at ``path`` when it is complete, or
    not at all.

    Args:
        path (str | Path): The file to write; its folder is made if need be.
        title (str): Title of the page.
        intro (str): What the page is about; an empty line begins a new paragraph. Defaults to "".
        tables (Sequence[Table]): Tables of results. Defaults to ().
        curves (Sequence[Curve | Spread]): Charts. Defaults to ().
        panels (Sequence[Picture | tuple]): Pictures, or tuples of their arguments (title, image,
            caption). Defaults to ().
        environment (Mapping[str, Any], optional): Versions, machine, seeds and the like by name.
            Defaults to None.
        notes (Sequence[str]): Remarks, shown as a list. Defaults to ().

    Returns:
        Path: The file written.
    """
    pictures = [p if isinstance(p, Picture) else Picture(*p) for p in panels]
    html = _PAGE.render(
        title=title,
        intro=[p for p in intro.split("\n\n") if p.strip()],
        tables=tables,
        charts=[(c, Markup(draw_spread(c) if isinstance(c, Spread) else draw_curve(c))) for c in curves],
        pictures=pictures,
        environment=environment or {},
        notes=notes,
        palette=_PALETTE,
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(html, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def draw_curve(curve: Curve) -> str:
    """Draw a chart as an SVG element for an HTML page.

    Its lines have the colours of the page's CSS variables ``--series-0``, ``--series-1`` and so on,
    everything else ``currentColor``, on a transparent background.

    Args:
        curve (Curve): What to draw.

    Returns:
        str: ``<svg ...>...</svg>``.
    """
    solid = [name for name in curve.series if name not in curve.dashed]

    def plot(axes: Axes) -> None:
        for name, (xs, ys) in curve.series.items():
            group = list(curve.dashed) if name in curve.dashed else solid
            axes.plot(
                np.asarray(xs, float),
                np.asarray(ys, float),
                label=name,
                color=_series_stand_in(group.index(name) % len(_PALETTE)),
                linestyle="--" if name in curve.dashed else "-",
                linewidth=1.2 if name in curve.dashed else 1.8,
                marker="o" if len(xs) == 1 else None,
            )
        axes.set(xlabel=curve.x_label, ylabel=curve.y_label)
        axes.grid(alpha=0.2)
        if curve.series:
            axes.legend(frameon=False)

    return _draw(curve.title, (6.4, 3.6), plot)


def draw_spread(spread: Spread) -> str:
    """Draw a chart as :func:`draw_curve` does.

    Args:
        spread (Spread): What to draw.

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

    return _draw(spread.title, (6.4, 1.0 + 0.36 * len(spread.groups)), plot)


def _draw(title: str, size: tuple[float, float], plot: Callable[[Axes], None]) -> str:
    """An SVG element of what is plotted, in the colours of the page."""
    style = {
        "svg.fonttype": "none",  # text stays text: searchable, in the reader's font
        "svg.hashsalt": title,  # same chart, same bytes
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    colors = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
    style.update(dict.fromkeys((*colors, "grid.color"), _TEXT_STAND_IN))
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        plot(figure.subplots())
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT_STAND_IN, "currentColor")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every chart, and never referred to
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    for i in range(len(_PALETTE)):
        svg = svg.replace(_series_stand_in(i), f"var(--series-{i})")
    return svg


def _series_stand_in(index: int) -> str:
    """A colour that matplotlib accepts, to be replaced by a CSS variable."""
    return f"#0d0e{index:02x}"


def _format_cell(value: Any) -> str:
    """Text of a table cell."""
    if isinstance(value, float):  # numpy's float64 is one, too
        return f"{value:.4g}"
    return str(value)


def _is_number(value: Any) -> bool:
    """Whether a table cell begins like a number, and so is set flush right."""
    head = str(value).split(" ")[0].rstrip("%")
    try:
        return not math.isnan(float(head))
    except ValueError:
        return False


def _png_uri(image: np.ndarray) -> str:
    """An image as a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


_TEXT_STAND_IN = "#0d0dfe"
# (light mode, dark mode), told apart by readers with colour-blindness too.
_PALETTE = (
    ("#0b6fb8", "#5ab4f0"),
    ("#c2540a", "#ff9d4d"),
    ("#00805f", "#35cfa3"),
    ("#a33a7c", "#f08fc8"),
    ("#6b5b00", "#e0cd4a"),
    ("#555555", "#bbbbbb"),
)

_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(cell=_format_cell, png=_png_uri)
_ENVIRONMENT.tests.update(numeric=_is_number)
_PAGE = _ENVIRONMENT.from_string("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
      content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1c1e21; --faint: #5c636b; --line: #d5d9de;
{% for light, dark in palette %}
  --series-{{ loop.index0 }}: {{ light }};
{% endfor %}
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171a; --ink: #e6e8ea; --faint: #9aa3ad; --line: #353b42;
{% for light, dark in palette %}
    --series-{{ loop.index0 }}: {{ dark }};
{% endfor %}
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper); color: var(--ink);
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { line-height: 1.2; }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.5rem 0 .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: left;
         vertical-align: top; }
th.number, td.number { text-align: right; white-space: nowrap; }
tbody th { font-weight: 500; }
figure { margin: 0; min-width: 0; }
figcaption, .caption { color: var(--faint); font-size: .9rem; }
.charts { display: grid; gap: 1.5rem;
          grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); }
.charts svg { width: 100%; height: auto; }
.charts svg text { font-family: system-ui, sans-serif !important; }
.panel { display: grid; gap: .75rem;
         grid-template-columns: repeat(auto-fit, minmax(min(9rem, 100%), 1fr)); }
.panel .wide { grid-column: 1 / -1; }
.panel img { display: block; max-width: 100%; height: auto; }
</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
{% for paragraph in intro %}
<p>{{ paragraph }}</p>
{% endfor %}
</header>
<main>
{% if tables %}
<section id="results">
<h2>Results</h2>
{% for table in tables %}
<h3>{{ table.title }}</h3>
<div class="scroll"><table>
<thead><tr>
{% for column in table.columns %}
{% set first = table.rows[0][loop.index0] if table.rows else "" %}
<th scope="col"{% if first is numeric %} class="number"{% endif %}>{{ column }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in table.rows %}
<tr>
{% for value in row %}
{% if loop.first %}
<th scope="row"{% if value is numeric %} class="number"{% endif %}>{{ value | cell }}</th>
{% else %}
<td{% if value is numeric %} class="number"{% endif %}>{{ value | cell }}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
{% if table.caption %}
<p class="caption">{{ table.caption }}</p>
{% endif %}
{% endfor %}
</section>
{% endif %}
{% if charts %}
<section id="curves">
<h2>Curves</h2>
<div class="charts">
{% for curve, svg in charts %}
<figure>
<h3>{{ curve.title }}</h3>
{{ svg }}
{% if curve.caption %}
<figcaption>{{ curve.caption }}</figcaption>
{% endif %}
</figure>
{% endfor %}
</div>
</section>
{% endif %}
{% if pictures %}
<section id="samples">
<h2>Samples</h2>
{% for picture in pictures %}
<h3>{{ picture.title }}</h3>
<div class="panel">
{% for label, image in picture.parts.items() %}
<figure{% if image.shape[1] > 1.5 * image.shape[0] %} class="wide"{% endif %}>
<img src="{{ image | png }}" width="{{ image.shape[1] }}" height="{{ image.shape[0] }}"
     alt="{{ picture.title }}{% if label %}: {{ label }}{% endif %}">
{% if label %}
<figcaption>{{ label }}</figcaption>
{% endif %}
</figure>
{% endfor %}
</div>
{% if picture.caption %}
<p class="caption">{{ picture.caption }}</p>
{% endif %}
{% endfor %}
</section>
{% endif %}
{% if notes %}
<section id="notes">
<h2>Notes</h2>
<ul>
{% for note in notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
</section>
{% endif %}
{% if environment %}
<section id="environment">
<h2>Environment</h2>
<div class="scroll"><table><tbody>
{% for name, value in environment.items() %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table></div>
</section>
{% endif %}
</main>
</body>
</html>
""")

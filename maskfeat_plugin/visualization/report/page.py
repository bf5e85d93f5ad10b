"""Writer of the HTML page of a report."""

import base64
import io
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from maskfeat_plugin.files import writing

from .charts import PALETTE, draw_curve, draw_spread, legend
from .parts import Curve, Facts, Folded, Headline, Media, Notes, Part, Picture, Section, Spread, Table, Text
from .templates import PAGE, PARTS, STYLE

# Control characters except white space, surrogates, and code points that are not characters
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def write_report(path: str | Path, *, title: str, intro: str = "", sections: Sequence[Section] = ()) -> Path:
    """Write a report as one HTML file that needs no other files and no network.

    Pictures are embedded as PNG or as the bytes of their file, charts as SVG. The page makes no request, has no script
    and follows the reader's light or dark mode. All text is escaped. Characters that HTML does not allow become U+FFFD:
    control characters, and bytes of file names that are not UTF-8. No incomplete file is left at ``path``.

    Args:
        path (str | Path): The file to write; its folder is made if it is missing.
        title (str): Title of the page.
        intro (str): Introduction; an empty line begins a new paragraph. Defaults to "".
        sections (Sequence[Section]): Sections of the page, from top to bottom. Defaults to ().

    Returns:
        Path: The file.

    Raises:
        WriteError: If the file cannot be written, for example because the disk is full.
    """
    html = _ENVIRONMENT.from_string(PAGE).render(
        title=title,
        intro=_paragraphs(intro),
        sections=[
            dict(title=s.title, id=name, intro=_paragraphs(s.intro), parts=_render_parts(s.parts))
            for s, name in zip(sections, _names(sections), strict=True)
        ],
        style=Markup(STYLE),
        palette=PALETTE,
    )
    html = _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", html)
    path = Path(path)
    with writing(path) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    return path


def _paragraphs(text: str) -> list[str]:
    return [paragraph for paragraph in text.split("\n\n") if paragraph.strip()]


def _names(sections: Sequence[Section]) -> list[str]:
    """Return a unique name for each section, which links can refer to."""
    names: list[str] = []
    for section in sections:
        name = re.sub(r"\W+", "-", section.title.lower()).strip("-") or "section"
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def _render_parts(parts: Iterable[Part]) -> list[Markup]:
    """Render parts as HTML. Consecutive charts are rendered as one element."""
    rendered = []
    for are_charts, group in itertools.groupby(parts, lambda part: isinstance(part, Curve | Spread)):
        if are_charts:
            charts = [_chart(chart) for chart in group if isinstance(chart, Curve | Spread)]
            rendered.append(Markup(_TEMPLATES["charts"].render(charts=charts)))
        else:
            rendered += [Markup(_TEMPLATES[_NAMES[type(part)]].render(part=part, inner=_inner(part))) for part in group]
    return rendered


def _inner(part: Part) -> list[Markup]:
    return _render_parts(part.parts) if isinstance(part, Folded) else []


def _chart(chart: Curve | Spread) -> dict[str, Any]:
    entries = legend(chart) if isinstance(chart, Curve) else []
    svg = Markup(draw_curve(chart) if isinstance(chart, Curve) else draw_spread(chart))
    return dict(title=chart.title, caption=chart.caption, svg=svg, legend=entries)


def _format_cell(value: Any) -> str:
    """Return the text of a table cell."""
    if isinstance(value, float):  # includes numpy's float64
        return f"{value:.4g}"
    return str(value)


def _is_number(value: Any) -> bool:
    """Check whether a table cell begins with a number. Such cells are aligned right."""
    head = str(value).split(" ")[0].rstrip("%")
    try:
        return "_" not in head and not math.isnan(float(head))
    except ValueError:
        return False


def _as_media(image: np.ndarray | Media) -> Media:
    """Convert an array to a PNG file; return a file unchanged."""
    if isinstance(image, Media):
        return image
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return Media(buffer.getvalue(), "image/png", image.shape[1], image.shape[0])


def _uri(media: Media) -> str:
    return f"data:{media.mime};base64,{base64.b64encode(media.data).decode('ascii')}"


_ENVIRONMENT = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters.update(cell=_format_cell, media=_as_media, uri=_uri)
_ENVIRONMENT.tests.update(numeric=_is_number)
_TEMPLATES = {name: _ENVIRONMENT.from_string(text) for name, text in PARTS.items()}
_NAMES = {
    Headline: "headline",
    Table: "table",
    Facts: "facts",
    Picture: "picture",
    Text: "text",
    Notes: "notes",
    Folded: "folded",
}

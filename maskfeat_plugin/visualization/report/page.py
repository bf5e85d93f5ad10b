"""The page of a report."""

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

# Control characters but white space, halves of characters, and what is no character
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def write_report(path: str | Path, *, title: str, intro: str = "", sections: Sequence[Section] = ()) -> Path:
    """Write a report as one HTML file that needs nothing else, offline and on any screen.

    Pictures are embedded as PNG or as the bytes of their file, charts as SVG; the page makes no request, has no script
    and follows the reader's light or dark mode. All text is escaped, and characters that no page may hold become
    U+FFFD: control characters, and bytes of file names that are not UTF-8. The file appears at ``path`` when it is
    complete, or not at all.

    Args:
        path (str | Path): The file to write; its folder is made if need be.
        title (str): Title of the page.
        intro (str): What the page is about; an empty line begins a new paragraph. Defaults to "".
        sections (Sequence[Section]): What is on it, from top to bottom. Defaults to ().

    Returns:
        Path: The file written.

    Raises:
        WriteError: If it cannot be written, as on a full disk.
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
    """Names to link to, no two the same."""
    names: list[str] = []
    for section in sections:
        name = re.sub(r"\W+", "-", section.title.lower()).strip("-") or "section"
        names.append(name if name not in names else f"{name}-{len(names)}")
    return names


def _render_parts(parts: Iterable[Part]) -> list[Markup]:
    """HTML of parts; charts that follow each other are one."""
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
    """Text of a table cell."""
    if isinstance(value, float):  # numpy's float64 is one, too
        return f"{value:.4g}"
    return str(value)


def _is_number(value: Any) -> bool:
    """Whether a table cell begins like a number, and so is set flush right."""
    head = str(value).split(" ")[0].rstrip("%")
    try:
        return "_" not in head and not math.isnan(float(head))
    except ValueError:
        return False


def _as_media(image: np.ndarray | Media) -> Media:
    """An image as a file."""
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

"""Results that a notebook shows as pictures."""

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping
from typing import SupportsFloat

import numpy as np
from PIL import Image

from maskfeat_plugin.errors import ConfigError

MAX_SHOWN = 4
"""Number of results of a list that are shown; only the number of the others is shown."""


class NotebookResult(dict):
    """A result as a dict. A notebook shows its picture; copies and pickles are plain dicts.

    Args:
        values (dict): The result.
        draw (Callable): Function that draws the picture, RGB, uint8 (height, width, 3). It is called when a notebook
            shows the result.
    """

    def __init__(self, values: dict, draw: Callable[[], np.ndarray]) -> None:
        super().__init__(values)
        self._draw = draw

    def __reduce__(self) -> tuple:
        return dict, (dict(self),)

    def _repr_png_(self) -> bytes | None:
        """Draw the picture, if the input still exists; otherwise a notebook shows the text."""
        try:
            page = self._draw()
        except ConfigError:
            return None
        buffer = io.BytesIO()
        Image.fromarray(page).save(buffer, "PNG")
        return buffer.getvalue()


class NotebookResults(list):
    """A list of :class:`NotebookResult`. A notebook shows the first ones."""

    def __init__(self, results: Iterable[NotebookResult]) -> None:
        super().__init__(results)

    def _repr_html_(self) -> str:
        """Show name, loss and picture of the first results."""
        parts = []
        for result in self[:MAX_SHOWN]:
            title = html.escape(f"{result['name']}, loss {loss_text(result['loss'])}")
            png = result._repr_png_()
            parts.append(f"<p>{title}</p>")
            if png is not None:
                parts.append(f'<img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{title}">')
        if len(self) > MAX_SHOWN:
            parts.append(f"<p>{len(self) - MAX_SHOWN} more</p>")
        return "".join(parts)


def loss_text(loss: SupportsFloat | Mapping[str, SupportsFloat]) -> str:
    """Write a loss, or the losses of several targets with their names.

    Args:
        loss (SupportsFloat | Mapping[str, SupportsFloat]): The loss.
    """
    if isinstance(loss, Mapping):
        return ", ".join(f"{name} {float(value):.4f}" for name, value in loss.items())
    return f"{float(loss):.4f}"

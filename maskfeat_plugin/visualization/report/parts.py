"""Parts of a report, such as tables, charts and pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class Headline:
    """The most important numbers, in large type.

    Args:
        values (Mapping[str, str]): Name of each number -> its value, with the unit.
    """

    values: Mapping[str, str]


@dataclass
class Table:
    """A table of results.

    Args:
        title (str): Heading above the table.
        columns (Sequence[str]): Names of the columns; the first column names the row.
        rows (Sequence[Sequence]): Cells. Floats are shown with 4 significant digits, other values
            are converted with ``str``.
        caption (str): Explanation for the reader. Defaults to "".

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
class Facts:
    """Names and values, such as versions.

    Args:
        title (str): Heading above the facts; "" for no heading.
        values (Mapping[str, Any]): The values by name.
        caption (str): Explanation for the reader. Defaults to "".
    """

    title: str
    values: Mapping[str, Any]
    caption: str = ""


@dataclass
class Curve:
    """A chart of one or more curves.

    If a curve has more points than a screen can show, only some are drawn: of neighbouring points the first, the last,
    the smallest and the largest, so that no peak is lost.

    Args:
        title (str): Heading above the chart.
        x_label (str): Label of the x axis, with the unit.
        y_label (str): Label of the y axis, with the unit.
        series (Mapping[str, tuple]): Name of each curve -> its points (xs, ys). Values that are
            not finite leave a gap.
        dashed (Sequence[str]): Names of the series that are baselines, such as the loss of
            predicting the mean target. They are drawn dashed. The n-th baseline has the colour of the
            n-th other series. Defaults to ().
        caption (str): Explanation for the reader. Defaults to "".
        marks (Sequence[float]): Positions on the x axis for dotted lines. Explain them in the caption. Defaults to ().
        log_y (bool): Whether the y axis is logarithmic. Defaults to False.

    Raises:
        ValueError: If xs and ys of a series differ in length, or ``dashed`` names a series that does
            not exist.
    """

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, tuple[ArrayLike, ArrayLike]]
    dashed: Sequence[str] = ()
    caption: str = ""
    marks: Sequence[float] = ()
    log_y: bool = False

    def __post_init__(self) -> None:
        for name, (xs, ys) in self.series.items():
            counts = np.size(xs), np.size(ys)
            if counts[0] != counts[1]:
                raise ValueError(f"Curve {self.title!r}: series {name!r} has {counts[0]} x and {counts[1]} y values.")
        unknown = set(self.dashed) - set(self.series)
        if unknown:
            raise ValueError(
                f"Curve {self.title!r}: dashed names {sorted(unknown)}, which are not among the "
                f"series {list(self.series)}."
            )


@dataclass
class Spread:
    """A chart of alternatives with several values each. It shows every value, their mean and standard deviation.

    Args:
        title (str): Heading above the chart.
        x_label (str): Name of the values, with the unit.
        groups (Mapping[str, Sequence[float]]): Name of each alternative -> its values, from top to bottom.
        reference (str, optional): The alternative that the others are compared with; a dashed line marks its mean.
            Defaults to None.
        caption (str): Explanation for the reader. Defaults to "".

    Raises:
        ValueError: If an alternative has no values, or the reference is not one of the alternatives.
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
            raise ValueError(
                f"Spread {self.title!r}: the reference must be one of {list(self.groups)}, got {self.reference!r}."
            )


@dataclass(frozen=True)
class Media:
    """The bytes of a file that browsers show as a picture or a video.

    Args:
        data (bytes): The content of the file.
        mime (str): Type of the file, such as "image/gif" or "video/mp4".
        width (int): Width in pixels.
        height (int): Height in pixels.

    Raises:
        ValueError: If the type is neither an image type nor a video type.
    """

    data: bytes
    mime: str
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.mime.partition("/")[0] not in ("image", "video"):
            raise ValueError(f"Media: mime must be a type of images or videos, got {self.mime!r}.")


@dataclass
class Picture:
    """One image, or a panel of images side by side (below each other on a narrow screen).

    Args:
        title (str): Heading above the picture.
        image (np.ndarray | Media | Mapping[str, np.ndarray | Media]): An array, uint8 (H, W, 3) in RGB, or a file; or
            several of them by label, such as a frame or a :func:`strip` of each picture of :func:`draw_prediction`.
        caption (str): Explanation for the reader. Defaults to "".

    Raises:
        ValueError: If an array is not uint8 (H, W, 3).
    """

    title: str
    image: np.ndarray | Media | Mapping[str, np.ndarray | Media]
    caption: str = ""

    def __post_init__(self) -> None:
        for label, image in self.parts.items():
            if not isinstance(image, Media) and (image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3):
                raise ValueError(
                    f"Picture {self.title!r} {label!r}: an image must be uint8 (H, W, 3), got "
                    f"{image.dtype} {image.shape}."
                )

    @property
    def parts(self) -> Mapping[str, np.ndarray | Media]:
        """Images by label; a single image has the label ""."""
        return self.image if isinstance(self.image, Mapping) else {"": self.image}


@dataclass
class Text:
    """The text of a file, such as a config. It is folded until the reader opens it.

    Args:
        title (str): Title of the text.
        text (str): The text.
    """

    title: str
    text: str


@dataclass
class Notes:
    """Remarks, as a list.

    Args:
        items (Sequence[str]): The remarks.
    """

    items: Sequence[str]


@dataclass
class Folded:
    """Parts that are folded until the reader opens them.

    Args:
        title (str): Title of the parts.
        parts (Sequence[Part]): The parts, none of them folded.
    """

    title: str
    parts: Sequence["Part"]


Part: TypeAlias = Headline | Table | Facts | Curve | Spread | Picture | Text | Notes | Folded


@dataclass
class Section:
    """A section of the page with a heading. The page begins with links to all sections.

    Args:
        title (str): Heading.
        parts (Sequence[Part]): Parts of the section, from top to bottom. On a wide screen, consecutive charts share a
            row.
        intro (str): Introduction; an empty line begins a new paragraph. Defaults to "".
    """

    title: str
    parts: Sequence[Part]
    intro: str = ""

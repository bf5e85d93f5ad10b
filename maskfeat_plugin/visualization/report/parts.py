"""What a report is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike


@dataclass
class Headline:
    """The few numbers that matter most, large.

    Args:
        values (Mapping[str, str]): The numbers, with their units, by what they are.
    """

    values: Mapping[str, str]


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
class Facts:
    """Names and values, such as versions.

    Args:
        title (str): Heading above them; none if it is empty.
        values (Mapping[str, Any]): The values by name.
        caption (str): What to know to read them. Defaults to "".
    """

    title: str
    values: Mapping[str, Any]
    caption: str = ""


@dataclass
class Curve:
    """A chart of one or more curves.

    However many points a curve has, no more are drawn than a screen can show: of neighbours, the first, the last, the
    least and the largest, so that no peak is lost.

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
        marks (Sequence[float]): Places on the x axis that get a dotted line; the caption says what they are. Defaults
            to ().
        log_y (bool): Whether the y axis is logarithmic. Defaults to False.

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


@dataclass(frozen=True)
class Media:
    """The bytes of a file that browsers show as a picture or a video.

    Args:
        data (bytes): The file.
        mime (str): Its type, such as "image/gif" or "video/mp4".
        width (int): In pixels.
        height (int): In pixels.

    Raises:
        ValueError: If the type is neither of an image nor of a video.
    """

    data: bytes
    mime: str
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.mime.partition("/")[0] not in ("image", "video"):
            raise ValueError(f"Media: mime={self.mime!r} has to be of an image or a video.")


@dataclass
class Picture:
    """One image, or a panel of images side by side (below each other where the screen is narrow).

    Args:
        title (str): Heading above it.
        image (np.ndarray | Media | Mapping[str, np.ndarray | Media]): uint8 (H, W, 3) in RGB or a file, or several by
            label, as :func:`draw_prediction` gives them, each a frame or a :func:`strip`.
        caption (str): What is to be seen. Defaults to "".

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
        """The images by label; a single one has the label ""."""
        return self.image if isinstance(self.image, Mapping) else {"": self.image}


@dataclass
class Text:
    """A text as it stands in a file, such as a config; folded until the reader opens it.

    Args:
        title (str): What it is.
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
        title (str): What they are.
        parts (Sequence[Part]): The parts, none of them folded.
    """

    title: str
    parts: Sequence["Part"]


Part: TypeAlias = Headline | Table | Facts | Curve | Spread | Picture | Text | Notes | Folded


@dataclass
class Section:
    """A part of the page with a heading, to which the page's first lines link.

    Args:
        title (str): Heading.
        parts (Sequence[Part]): What is in it, from top to bottom. Charts that follow each other share a row where the
            screen is wide.
        intro (str): What it is about; an empty line begins a new paragraph. Defaults to "".
    """

    title: str
    parts: Sequence[Part]
    intro: str = ""

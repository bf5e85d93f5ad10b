"""Tables of AVA: annotations, excluded timestamps, proposals and the names of actions."""

import csv
import io
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmaction.evaluation import read_labelmap

from .video import decode_list

# Numbers of columns: of annotations and proposals, and of excluded timestamps
_ROW, _EXCLUSION = 8, 2


class Row(NamedTuple):
    """Row of a table and the number of its line, counted from 1."""

    line: int
    columns: list[str]


def read_table(path: str | Path, kind: str) -> list[Row]:
    """Read a table.

    Args:
        path (str | Path): The file, CSV in UTF-8 with or without a byte order mark.
        kind (str): The name of the setting with the path, for messages.

    Returns:
        list[Row]: The rows that are not blank, without quotes, and without spaces around the columns.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is not UTF-8, or if a line cannot be split; with the line.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{kind}: there is no file {path}.")
    return parse_table(Path(path).read_bytes(), path)


def parse_table(content: bytes, path: str | Path) -> list[Row]:
    """Parse the content of a table, see :func:`read_table`.

    Args:
        content (bytes): The content.
        path (str | Path): The path of the file, for messages.

    Returns:
        list[Row]: The rows.

    Raises:
        ValueError: See :func:`read_table`.
    """
    text = io.StringIO(decode_list(content, str(path)), newline=None).read()  # line ends of any system
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)
    rows, line = [], 1
    try:
        for columns in reader:
            columns = [column.strip() for column in columns]
            if any(columns):
                rows.append(Row(line, columns))
                if any("," in column or "\n" in column or column.startswith('"') for column in columns):
                    raise ValueError(
                        f"{path}, line {line}: {columns} has a comma, a line break or a quote within a column, and "
                        "mmaction2 cannot read such names. Rename the file."
                    )
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: this is no row of a table ({error}). Correct its quotes.") from error
    return rows


def write_table(rows: Sequence[Row]) -> str:
    """Return rows in the form that mmaction2 reads: columns between commas, without quotes."""
    return "".join(",".join(row.columns) + "\n" for row in rows)


def check_annotations(rows: Sequence[Row], path: str | Path, num_classes: int | None) -> None:
    """Check the rows of an annotation file.

    Args:
        rows (Sequence[Row]): Video, timestamp, x1, y1, x2, y2, action and person.
        path (str | Path): The path of the file, for messages.
        num_classes (int, optional): Number of actions plus one. None allows actions of any number.

    Raises:
        ValueError: With the first wrong line.
    """
    for row in rows:
        _check_box(row, path)
        action, person = row.columns[6:]
        number = int(action) if _is_whole(action) else -1
        if number < 1 or (num_classes is not None and number >= num_classes):
            wanted = "a whole number of at least 1" if num_classes is None else f"1 to {num_classes - 1}"
            raise ValueError(
                f"{path}, line {row.line}: the action is {action!r}; with num_classes={num_classes} of the data set "
                f"(actions plus one) it has to be {wanted}."
            )
        if not _is_whole(person.removeprefix("-")):
            raise ValueError(f"{path}, line {row.line}: the person is {person!r}; it has to be a whole number.")


def check_exclusions(rows: Sequence[Row], path: str | Path) -> None:
    """Check the rows of a table of excluded timestamps.

    Args:
        rows (Sequence[Row]): Video and timestamp.
        path (str | Path): The path of the file, for messages.

    Raises:
        ValueError: With the first wrong line.
    """
    for row in rows:
        if len(row.columns) != _EXCLUSION or not _is_whole(row.columns[1]):
            raise ValueError(
                f"{path}, line {row.line}: {','.join(row.columns)!r} is not a video and a timestamp in whole seconds."
            )


def read_proposals(path: str | Path) -> dict[str, np.ndarray]:
    """Read proposals from a table of text.

    Args:
        path (str | Path): Rows of video, timestamp, x1, y1, x2, y2, action or nothing, score.

    Returns:
        dict[str, np.ndarray]: "video,timestamp" -> float32 (K, 5): x1, y1, x2, y2 as fractions of the frame, and the
        score, sorted by falling score. A box that the table has for several actions is one row.

    Raises:
        ValueError: With the first wrong line.
    """
    found: dict[str, dict[tuple[float, ...], float]] = defaultdict(dict)
    for row in read_table(path, "proposal_file"):
        box, score = _check_box(row, path), _number(row.columns[7])
        if not 0 <= score <= 1:
            raise ValueError(
                f"{path}, line {row.line}: the score is {row.columns[7]!r}; it has to be a number from 0 to 1."
            )
        boxes = found[f"{row.columns[0]},{int(row.columns[1]):04d}"]
        boxes[box] = max(score, boxes.get(box, 0.0))
    return {
        key: np.array(sorted((*box, score) for box, score in boxes.items()), np.float32)[
            np.argsort([-score for _, score in sorted(boxes.items())], kind="stable")
        ]
        for key, boxes in found.items()
    }


def read_label_map(path: str | Path) -> dict[int, str]:
    """Read the names of actions.

    Args:
        path (str | Path): AVA's label map (.pbtxt).

    Returns:
        dict[int, str]: Number of each action, counted from 1 -> its name.

    Raises:
        ValueError: If the file has another form.
    """
    text = decode_list(Path(path).read_bytes(), str(path))
    try:
        actions, _ = read_labelmap(io.StringIO(text, newline=None))
    except (ValueError, IndexError) as error:
        raise ValueError(
            f'{path} is no label map of AVA: its entries have to be name: "..." and id: ... ({error}).'
        ) from error
    return {action["id"]: action["name"] for action in actions}


@contextmanager
def plain_copies(owner: object, *names: str) -> Iterator[None]:
    """Make an object of mmaction2 read its tables as :func:`read_table` does.

    Args:
        owner (object): The object. In the block, its attributes are paths of copies without byte order marks and
            quotes.
        *names (str): The attributes with the paths. Attributes that are None are skipped.
    """
    paths = {name: getattr(owner, name) for name in names if getattr(owner, name) is not None}
    with tempfile.TemporaryDirectory() as folder:
        for name, path in paths.items():
            copy = Path(folder, f"{name}.csv")
            copy.write_text(write_table(read_table(path, name)), encoding="utf-8")
            setattr(owner, name, str(copy))
        try:
            yield
        finally:
            for name, path in paths.items():
                setattr(owner, name, path)


def check_corners(row: Row, corners: Sequence[str], path: str | Path) -> tuple[float, float, float, float]:
    """Check the box of a row.

    Args:
        row (Row): The row, for its line number.
        corners (Sequence[str]): Its columns x1, y1, x2, y2.
        path (str | Path): The path of the file, for messages.

    Returns:
        tuple[float, float, float, float]: The box in fractions of the frame.

    Raises:
        ValueError: If it is not a box, or is in pixels.
    """
    x1, y1, x2, y2 = map(_number, corners)
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise ValueError(
            f"{path}, line {row.line}: the box {list(corners)} is not x1 < x2, y1 < y2 in fractions of the frame; "
            "pixels have to be divided by its width and height."
        )
    return x1, y1, x2, y2


def _check_box(row: Row, path: str | Path) -> tuple[float, ...]:
    """Check a row of annotations or proposals and return its box."""
    columns, corners = row.columns, row.columns[2:6]
    is_box = not any(math.isnan(_number(corner)) for corner in corners)
    if len(columns) != _ROW or not columns[0] or not _is_whole(columns[1]) or not is_box:
        raise ValueError(
            f"{path}, line {row.line}: {','.join(columns)!r} is no row of AVA's. A row has the video, the timestamp in "
            "whole seconds, x1, y1, x2, y2 and 2 more columns."
        )
    return check_corners(row, corners, path)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

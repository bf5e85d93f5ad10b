"""A conversion as a text table."""

from .names import LAYER, ranges, split_layer
from .writer import Row


def format_rows(rows: list[Row]) -> str:
    """Format the rows of a conversion, with one line for all layers that are alike.

    Args:
        rows (list[Row]): The rows of the conversion, one for each tensor.

    Returns:
        str: Lines of source, target, shape and reason.
    """
    groups: dict[tuple, list[int]] = {}
    for row in rows:
        source, layer = split_layer(row.source)
        target, _ = split_layer(row.target or "-")
        numbers = groups.setdefault((source, target, row.shape, row.reason), [])
        numbers.extend([] if layer is None else [layer])
    lines = [("source", "target", "shape", "")]
    for (source, target, shape, reason), numbers in groups.items():
        names = (name.replace(LAYER, ranges(numbers)) for name in (source, target))
        lines.append((*names, str(shape) if shape else "", reason))
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    return "\n".join(
        "  ".join((*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[3])).rstrip() for line in lines
    )

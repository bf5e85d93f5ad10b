"""What a check of the doctor says."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, ERROR = "ok", "warning", "error"


class Finding(NamedTuple):
    """One line of the doctor's table.

    Args:
        status (str): ``ok``, ``warning`` or ``error``.
        check (str): What was looked at.
        text (str): What was found.
        remedy (str): What to do about it. Defaults to "", nothing.
    """

    status: str
    check: str
    text: str
    remedy: str = ""

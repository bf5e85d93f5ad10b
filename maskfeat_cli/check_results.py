"""Result of a check of ``maskfeat doctor``."""

from __future__ import annotations

from typing import NamedTuple

OK, WARNING, ERROR = "ok", "warning", "error"


class Finding(NamedTuple):
    """One line of the doctor's table.

    Args:
        status (str): ``ok``, ``warning`` or ``error``.
        check (str): Name of the check, such as a package.
        text (str): Result of the check.
        remedy (str): Advice to the user. Defaults to "", for nothing to do.
    """

    status: str
    check: str
    text: str
    remedy: str = ""

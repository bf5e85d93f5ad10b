"""Examples of the pages in docs/."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read(name):
    """Text of a page."""
    return (ROOT / "docs" / name).read_text()


def section(text, title):
    """What a page says below a heading, up to the next one of its level or above."""
    level, body = re.search(rf"^(#+) {re.escape(title)}\n(.*)", text, re.MULTILINE | re.DOTALL).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", body, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text, language="python"):
    """The examples of a page or section."""
    return re.findall(rf"^```{language}\n(.+?)^```", text, re.MULTILINE | re.DOTALL)


def run(code, **scope):
    """The names that an example sets."""
    exec(code, scope)
    return scope

"""Examples of the pages in docs/."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read(name):
    """Return the text of a page."""
    return (ROOT / "docs" / name).read_text()


def section(text, title):
    """Return the text below a heading, up to the next heading of the same or a higher level."""
    level, body = re.search(rf"^(#+) {re.escape(title)}\n(.*)", text, re.MULTILINE | re.DOTALL).groups()
    return re.split(rf"^#{{1,{len(level)}}} ", body, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text, language="python"):
    """Return the examples of a page or section."""
    return re.findall(rf"^```{language}\n(.+?)^```", text, re.MULTILINE | re.DOTALL)


def run(code, **scope):
    """Run an example and return the names that it sets."""
    exec(code, scope)
    return scope

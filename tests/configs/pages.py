"""Helpers of the tests for the pages in docs/."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read_page(name):
    """Return the text of a page."""
    return (ROOT / "docs" / name).read_text()


def python_blocks(text):
    """Return the Python examples of a page by section; further examples of a section have a number."""
    blocks = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        title = section.partition("\n")[0]
        for i, code in enumerate(re.findall(r"^```python\n(.+?)^```", section, re.MULTILINE | re.DOTALL)):
            blocks[title if i == 0 else f"{title} {i + 1}"] = code
    return blocks


def run_block(code):
    """Run an example and return the names that it sets."""
    scope = {}
    exec(code, scope)
    return scope


def missing_links(text):
    """Return the local files that a page links to and that do not exist."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    return [link for link in links if not (ROOT / "docs" / link).exists()]

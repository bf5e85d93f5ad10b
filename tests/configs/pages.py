"""What the tests of the pages in docs/ share."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read_page(name):
    """Text of a page."""
    return (ROOT / "docs" / name).read_text()


def python_blocks(text):
    """The Python examples of a page, each by its section; further ones of a section have a number."""
    blocks = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        title = section.partition("\n")[0]
        for i, code in enumerate(re.findall(r"^```python\n(.+?)^```", section, re.MULTILINE | re.DOTALL)):
            blocks[title if i == 0 else f"{title} {i + 1}"] = code
    return blocks


def run_block(code):
    """The names that an example sets."""
    scope = {}
    exec(code, scope)
    return scope


def missing_links(text):
    """Files that a page links to, beside the web, and that are not there."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    return [link for link in links if not (ROOT / "docs" / link).exists()]

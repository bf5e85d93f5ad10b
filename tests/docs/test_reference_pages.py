"""The pages docs/commands.md and docs/python.md: each has all names of its kind."""

import re

from examples import read

from maskfeat_cli import COMMANDS
from maskfeat_plugin import apis


def code_names(page):
    """Return the single words that a page shows as code."""
    return set(re.findall(r"`(\w+)`", read(page)))


def test_every_command_is_on_the_page():
    assert COMMANDS.keys() <= code_names("commands.md")


def test_every_function_is_on_the_page():
    assert set(apis.__all__) <= code_names("python.md")

"""Variants of parametrized tests: `make test` runs a few of them, and `make test-slow` the others."""

import pytest


def long_except(values, *quick):
    """Mark the values of ``pytest.mark.parametrize`` as long.

    Args:
        values: The values. They are tuples if the test has several arguments.
        *quick: Positions of the values that are not marked.
    """
    return [
        value
        if i in quick
        else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.long)
        for i, value in enumerate(values)
    ]

"""Docstrings' Sphinx roles, such as :class:`MaskFeat`, as code for the config reference (an extension of griffe)."""

import re

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|obj):`~?\.?([^`]+)`")


class PlainRoles(griffe.Extension):
    """Leaves of each role what it names."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Change the docstring of a class, function or module."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)

"""Extension of griffe that turns Sphinx roles in docstrings, such as :class:`MaskFeat`, into code."""

import re

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|obj):`~?\.?([^`]+)`")


class PlainRoles(griffe.Extension):
    """Replacement of each role by its name, formatted as code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Change the docstring of a class, function or module."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)

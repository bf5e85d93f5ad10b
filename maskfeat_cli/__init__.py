"""Command line tool ``maskfeat``.

The package imports neither torch nor maskfeat_plugin. So the help appears at once, and ``maskfeat doctor`` also runs
where these two are broken.
"""

from .commands import COMMANDS, main

__all__ = ["COMMANDS", "main"]

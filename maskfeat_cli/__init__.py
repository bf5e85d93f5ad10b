"""The command ``maskfeat``.

It imports neither torch nor maskfeat_plugin, so that its help comes at once and its doctor runs where these do not.
"""

from .commands import COMMANDS, main

__all__ = ["COMMANDS", "main"]

"""Entry point of ``python -m maskfeat_cli``, which does the same as ``maskfeat``."""

import sys

from .commands import main

sys.exit(main())

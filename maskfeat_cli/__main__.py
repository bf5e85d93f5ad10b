"""``python -m maskfeat_cli``, the same as ``maskfeat``."""

import sys

from .commands import main

sys.exit(main())

"""``python -m maskfeat_plugin``, the same as ``maskfeat`` but for the package, which Python imports before it."""

import sys

from maskfeat_cli import main

sys.exit(main())

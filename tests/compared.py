"""Access to timm and transformers, which are installed outside of the environment, see requirements/compared.txt."""

import sys
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(sys.prefix, "compared")


@contextmanager
def importable():
    """Make these libraries importable in the block."""
    sys.path.append(str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))

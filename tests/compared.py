"""timm and transformers, which lie apart from the environment, see requirements/compared.txt."""

import sys
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(sys.prefix, "compared")


@contextmanager
def importable():
    """Let these libraries be imported within the block."""
    sys.path.append(str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))

"""Access to timm and transformers, which are installed outside of the environment, see requirements/compared.txt."""

import sys
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

FOLDER = Path(sys.prefix, "compared")


@contextmanager
def importable():
    """Make these libraries importable in the block."""
    sys.path.append(str(FOLDER))
    try:
        yield
    finally:
        sys.path.remove(str(FOLDER))


@contextmanager
def backbones_of_timm():
    """Make these libraries importable, and let mmpretrain.TIMMBackbone find timm, as if it were installed.

    mmpretrain looks for timm when it is imported, which is before the block: mmpretrain and mmaction2 are imported
    without transformers here, as in all other tests.
    """
    from mmpretrain.models import TIMMBackbone

    import maskfeat_plugin.models  # noqa: F401

    build = getattr(TIMMBackbone.__init__, "__wrapped__", TIMMBackbone.__init__)
    with importable(), patch.object(TIMMBackbone, "__init__", build):
        yield

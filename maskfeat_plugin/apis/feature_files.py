"""Old name of :mod:`maskfeat_plugin.apis.features.files`, for one release."""

import warnings

from . import read_features

__all__ = ["read_features"]

warnings.warn("read_features is in maskfeat_plugin.apis now", DeprecationWarning, stacklevel=2)

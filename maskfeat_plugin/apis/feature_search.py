"""Old name of :mod:`maskfeat_plugin.apis.features.search`, for one release."""

import warnings

from . import search_features

__all__ = ["search_features"]

warnings.warn("search_features is in maskfeat_plugin.apis now", DeprecationWarning, stacklevel=2)

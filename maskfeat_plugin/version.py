"""The version of maskfeat_plugin. setup.py reads it too."""

__version__ = "0.1.0"

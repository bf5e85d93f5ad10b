"""The version of maskfeat_plugin, read by setup.py too."""

__version__ = "0.1.0"

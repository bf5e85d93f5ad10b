"""The documentation site beside docs/: the config reference, files that pages link to, checks of the English."""

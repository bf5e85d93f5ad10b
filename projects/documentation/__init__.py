"""Code of the documentation site: the config reference, pages of linked files, pictures, and checks of the English."""

"""What the documentation site has beside the pages in docs/: the config reference, and files that pages link to."""

from projects.documentation.links import broken_links, link_targets
from projects.documentation.pages import repository_pages, rewrite_links
from projects.documentation.reference import reference_pages

__all__ = ["broken_links", "link_targets", "reference_pages", "repository_pages", "rewrite_links"]

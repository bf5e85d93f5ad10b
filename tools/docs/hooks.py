"""Hooks of mkdocs: `make docs` adds the config reference and the files that pages of docs/ link to."""

import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # projects/ is no installed package

import maskfeat_plugin  # noqa: F401 (registers everything)
from projects import ROOT
from projects.documentation.pages import repository_pages, rewrite_links
from projects.documentation.reference import reference_pages

# Titles in the navigation: of the generated pages, and of the section for pages of docs/ that mkdocs.yml does not name
REFERENCE = "Config reference"
OTHERS = "How-to guides"


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the config reference into the navigation, and pages of docs/ that it does not name."""
    docs = Path(config.docs_dir)
    named = set(_pages(config.nav))
    others = [path.relative_to(docs).as_posix() for path in sorted(docs.rglob("*.md"))]
    for entry in _entries(config.nav):
        if REFERENCE in entry:
            entry[REFERENCE] = [{title: f"reference/{name}"} for name, (title, _) in reference_pages().items()]
        if OTHERS in entry:
            entry[OTHERS] += [page for page in others if page not in named]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages."""
    pages = {f"reference/{name}": text for name, (_, text) in reference_pages().items()}
    for name, text in (pages | repository_pages(ROOT)).items():
        files.append(File.generated(config, name, content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite links out of docs/, so that they lead to the generated pages of these files."""
    return rewrite_links(markdown, page.file.src_uri, ROOT)


def on_post_build(config: MkDocsConfig) -> None:
    """Write the search index as a script too: the theme reads that one in pages that were opened from the disk."""
    index = Path(config.site_dir, "search", "search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text()}")


def _entries(nav: list) -> Iterator[dict]:
    """Find the titled entries of the navigation, sections before their content."""
    for entry in nav:
        if isinstance(entry, dict):
            yield entry
            for content in entry.values():
                if isinstance(content, list):
                    yield from _entries(content)


def _pages(nav: list | dict | str) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages(part)

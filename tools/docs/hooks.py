"""What `make docs` adds to the pages in docs/ (hooks of mkdocs): the config reference, and files that pages link to."""

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

REFERENCE = "Config reference"
# Section of the navigation -> folder below docs/ whose pages belong there where nothing else is said
FOLDERS = {"Tutorials": "tutorials", "Guides": ""}


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the config reference into the navigation, and pages of docs/ that it does not name."""
    docs = Path(config.docs_dir)
    named = set(_pages(config.nav))
    others = [path.relative_to(docs).as_posix() for path in sorted(docs.rglob("*.md"))]
    for entry in config.nav:
        if REFERENCE in entry:
            entry[REFERENCE] = [{title: f"reference/{name}"} for name, (title, _) in reference_pages().items()]
        for section, folder in FOLDERS.items():
            if section in entry:
                entry[section] += [p for p in others if p not in named and p.rpartition("/")[0] == folder]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages."""
    pages = {f"reference/{name}": text for name, (_, text) in reference_pages().items()}
    for name, text in (pages | repository_pages(ROOT)).items():
        files.append(File.generated(config, name, content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links out of docs/ lead to the pages that stand for what they name."""
    return rewrite_links(markdown, page.file.src_uri, ROOT)


def on_post_build(config: MkDocsConfig) -> None:
    """Let pages open from the disk without an error: the theme then reads the index of its search as a script."""
    index = Path(config.site_dir, "search", "search_index.json")
    index.with_suffix(".js").write_text(f"var __index = {index.read_text()}")


def _pages(nav: list | dict | str) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from _pages(part)

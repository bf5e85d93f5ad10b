"""What `make docs` adds to the pages in docs/ (hooks of mkdocs): the config reference, and files that pages link to."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import maskfeat_plugin  # noqa: F401 (registers everything)
from maskfeat_plugin.apis.documentation import reference_pages, repository_pages, rewrite_links

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = "Config reference"


def on_config(config: MkDocsConfig) -> None:
    """Put the pages of the config reference into the navigation."""
    for entry in config.nav:
        if isinstance(entry, dict) and REFERENCE in entry:
            entry[REFERENCE] = [{title: f"reference/{name}"} for name, (title, _) in reference_pages().items()]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages."""
    pages = {f"reference/{name}": text for name, (_, text) in reference_pages().items()}
    for name, text in (pages | repository_pages(ROOT)).items():
        files.append(File.generated(config, name, content=text))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links out of docs/ lead to the pages that stand for what they name."""
    return rewrite_links(markdown, page.file.src_uri, ROOT)

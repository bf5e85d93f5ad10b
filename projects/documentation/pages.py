"""Files of the repository outside docs/ as pages of the site, so that links to them work on GitHub and on the site."""

import posixpath
from pathlib import Path

from .links import link_targets, map_links

PREFIX = "repository"
# In the navigation
ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_LANGUAGES = {".py": "python", ".sh": "bash", ".yml": "yaml", ".yaml": "yaml", ".toml": "toml", ".json": "json"}
_NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def repository_pages(root: Path) -> dict[str, str]:
    """Pages of all that the pages in docs/, and those at the root, link to outside docs/.

    Args:
        root (Path): The repository.

    Returns:
        dict[str, str]: Markdown by the page's path in the site's source, such as "repository/configs/demo.md".
    """
    pages: dict[str, str] = {}
    waiting = list(ROOT_PAGES)
    for page in (root / "docs").rglob("*.md"):
        waiting += link_targets(page.read_text(), page.parent.relative_to(root).as_posix())
    while waiting:
        path = waiting.pop()
        if is_page(path, root) and page_name(path) not in pages:
            pages[page_name(path)], more = _page(path, root)
            waiting += more
    return pages


def is_page(path: str, root: Path) -> bool:
    """Whether something of the repository is a page of the site because it is linked to."""
    outside = path.startswith(("docs/", "..", "/")) or path == "docs"
    return not outside and (root / path).exists()


def page_name(path: str) -> str:
    """Where the site's source has the page of a file or folder."""
    return f"{PREFIX}/{path}" if path.endswith(".md") else f"{PREFIX}/{path}.md"


def rewrite_links(text: str, page: str, root: Path) -> str:
    """Let the links of a page lead to where the site has what they name.

    Args:
        text (str): Its Markdown.
        page (str): Its path in the site's source: "masks.md", "repository/README.md".
        root (Path): The repository.

    Returns:
        str: The page; links to what is not there are as they were, which the site's build complains of.
    """
    inside, folder = page.startswith(f"{PREFIX}/"), posixpath.dirname(page)
    here = posixpath.relpath(folder, PREFIX) if inside else posixpath.join("docs", folder)

    def change(target: str, anchor: str) -> str:
        path = posixpath.normpath(posixpath.join(here, target))
        if is_page(path, root):
            return posixpath.relpath(page_name(path), folder or ".") + anchor
        if path.startswith("docs/") and (root / path).exists():
            return posixpath.relpath(path.removeprefix("docs/"), folder or ".") + anchor
        return target + anchor

    return map_links(text, change)


def _page(path: str, root: Path) -> tuple[str, list[str]]:
    """The page of a file or folder, and what it links to."""
    file = root / path
    if file.is_dir():
        children = [f"{path}/{child.name}" for child in sorted(file.iterdir()) if _is_text(child)]
        rows = [
            f"- [{posixpath.basename(child)}]({posixpath.basename(path)}/{posixpath.basename(child)})"
            for child in children
        ]
        return f"{_NOT_SEARCHED}# {path}\n\n" + "\n".join(rows) + "\n", children
    text = file.read_text()
    if path.endswith(".md"):
        return text, list(link_targets(text, posixpath.dirname(path)))
    fence = "`" * 6
    return f"{_NOT_SEARCHED}# {path}\n\n{fence}{_LANGUAGES.get(file.suffix, 'text')}\n{text.rstrip()}\n{fence}\n", []


def _is_text(path: Path) -> bool:
    return path.suffix in {*_LANGUAGES, ".md", ".txt"} and not path.name.startswith(".")

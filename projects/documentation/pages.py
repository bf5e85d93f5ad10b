"""Pages of the site for files outside docs/, so that links to these files work on GitHub and on the site."""

import posixpath
from pathlib import Path

from .links import link_targets, map_links

PREFIX = "repository"
# Pages in the navigation
ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_LANGUAGES = {".py": "python", ".sh": "bash", ".yml": "yaml", ".yaml": "yaml", ".toml": "toml", ".json": "json"}
_NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def repository_pages(root: Path) -> dict[str, str]:
    """Build a page for every file or folder outside docs/ that docs/ or the pages at the root link to.

    Args:
        root (Path): The repository.

    Returns:
        dict[str, str]: Path of a page in the site's source, such as "repository/configs/demo.md" -> Markdown.
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
    """Return whether a link target is a file or folder of the repository outside docs/."""
    outside = path.startswith(("docs/", "..", "/")) or path == "docs"
    return not outside and (root / path).exists()


def page_name(path: str) -> str:
    """Return the path of a file's or folder's page in the site's source."""
    return f"{PREFIX}/{path}" if path.endswith(".md") else f"{PREFIX}/{path}.md"


def rewrite_links(text: str, page: str, root: Path) -> str:
    """Rewrite the links of a page so that they work on the site.

    Args:
        text (str): Markdown of the page.
        page (str): Path of the page in the site's source: "masks.md", "repository/README.md".
        root (Path): The repository.

    Returns:
        str: The page. Links to missing files are not changed, so that the site's build reports them.
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
    """Build the page of a file or folder, and return it with the targets of its links."""
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

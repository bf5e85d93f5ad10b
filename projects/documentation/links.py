"""Relative links of Markdown pages: rewrite them, list their targets, and find broken ones."""

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

# [text](target) and ![text](target). Targets with a scheme, and anchors of the page itself, are not relative links
_LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=[)\s])")
_CODE = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def map_links(text: str, change: Callable[[str, str], str]) -> str:
    """Change the targets of a page's relative links.

    Args:
        text (str): Markdown. Links in code are not changed.
        change (Callable[[str, str], str]): Receives a target and its anchor, such as "data.md" and "#coco" (or "").
            Returns the new target including the anchor.

    Returns:
        str: The page.
    """

    def outside_code(part: str) -> str:
        return _LINK.sub(lambda match: match[1] + change(match[2], match[3] or ""), part)

    parts, end = [], 0
    for code in _CODE.finditer(text):
        parts += [text[end : code.start()], code[0]]
        end = code.end()
    parts.append(text[end:])
    return _join(parts, outside_code)


def link_targets(text: str, folder: str) -> Iterator[str]:
    """List the targets of a page's links.

    Args:
        text (str): Markdown.
        folder (str): Folder of the page, relative to the root of the repository: "docs", or "" for the root.

    Yields:
        str: Paths relative to the root of the repository, such as "configs/demo". "../x" is outside.
    """
    found: list[str] = []

    def note(target: str, anchor: str) -> str:
        found.append(posixpath.normpath(posixpath.join(folder, target)))
        return target + anchor

    map_links(text, note)
    yield from found


def broken_links(page: Path, root: Path) -> list[str]:
    """List the links of a page whose targets do not exist in the repository.

    Args:
        page (Path): A Markdown file.
        root (Path): The repository.

    Returns:
        list[str]: Paths of the missing targets, relative to the root.
    """
    folder = page.parent.relative_to(root).as_posix()
    return [
        path for path in link_targets(page.read_text(), folder) if path.startswith("..") or not (root / path).exists()
    ]


def _join(parts: list[str], change: Callable[[str], str]) -> str:
    """Apply a change to the text, but not to the code between it. A link may contain code: ``[`x`](y)``."""
    blocks, texts = {}, []
    for i, part in enumerate(parts):
        if i % 2:  # code
            mark = f"\0{i}\0"
            blocks[mark] = part
            texts.append(mark)
        else:
            texts.append(part)
    changed = change("".join(texts))
    return re.sub("\0\\d+\0", lambda mark: blocks[mark[0]], changed)

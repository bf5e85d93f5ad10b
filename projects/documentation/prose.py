"""Checks of the project's English: unclear phrases, long sentences, the shape of pages, the limits of the README."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Phrases that make readers look back, and advice. `what` may ask a question; it may not stand for a noun.
PHRASES = {
    r"what(?:ever)?|whoever|whichever": "name the thing: a noun instead of 'what ...'",
    r"(?:that|those) (?:of|which)|of which": "repeat the noun",
    r"(?<!aria-)(?<!overflow: )hidden(?! (?:layer|unit|size|state|dimension|file|folder|channel))": "say masked",
    r"(?:tell|tells|telling|told) (?:\w+ ){0,3}apart": "say classify or distinguish",
    r"(?:is|are|be|was|were) had": "put the actor and the verb first",
    r"in (?:its|their) place": "say instead, and name the thing",
    r"anew": "say again",
    r"for ever": "say forever, or better how long",
    r"by nature": "give the reason",
    r"as it were|lest|thereof|therein|thereby|whence|thence|hither": "say it in plain words",
}
# Words that a docstring must not begin with
FIRST_WORDS = {
    *("What", "Whatever", "Whoever", "Whether", "Where", "Which", "Who", "Whose"),
    *("How", "Of", "Once", "Every", "None"),
}
MAX_WORDS = 40  # of a sentence in a page
README_WORDS, README_LINKS, README_COLUMNS = 900, 25, 120
AUDIENCE = "For "  # begins the first paragraph of a page
LAST_HEADING = "## Where to go next"

# Not a part of a name such as `model.what`
_PHRASES = {
    re.compile(rf"(?<![\w.])(?:{phrase})(?!\w|\.\w)", re.IGNORECASE): advice for phrase, advice in PHRASES.items()
}
_BLOCK = re.compile(r"^( *)(```+|~~~+).*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_INLINE = re.compile(r"(`+)[^`]+?\1")
_QUOTED = re.compile(r"(?<!\w)'[^'\n]+'(?!\w)")  # names, not apostrophes
_LINK = re.compile(r"!?\[([^]]*)\]\([^)]*\)")
_ADDRESS = re.compile(r"https?://\S+")
# The name of an argument in a docstring, with or without its type
_ARGUMENT = re.compile(r"^ *\*{0,2}\w+(?: \([^\n]*?\))?:", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.?!:;])\s+(?=[A-Z`\"'(*|]|$)")
# A paragraph of a page ends at an empty line, a row of a table, a heading or an item of a list
_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*+]|\d+\.|#+|\|)\s)")


class Finding(NamedTuple):
    """A place to rewrite.

    Args:
        path (Path): The file.
        line (int): The line, from 1.
        message (str): The reason.
    """

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def check_page(path: Path) -> list[Finding]:
    """Check the phrases and the length of the sentences of a Markdown page.

    Args:
        path (Path): The page. Code, comments and addresses are not read.

    Returns:
        list[Finding]: The findings, in the order of the page.
    """
    text = _blank(_COMMENT, _blank(_BLOCK, path.read_text()))
    found = []
    text = _INLINE.sub(lambda match: re.sub(r"[^\n]", "x", match[0]), text)
    text = _LINK.sub(lambda match: match[1] + "\n" * (match[0].count("\n") - match[1].count("\n")), text)
    for start, paragraph in _paragraphs(_ADDRESS.sub("x", text)):
        line = text.count("\n", 0, start) + 1
        found += [Finding(path, line + at, message) for at, message in _unclear(paragraph)]
        if not paragraph.lstrip().startswith("|"):
            found += [Finding(path, line + at, message) for at, message in _long_sentences(paragraph)]
    return sorted(found)


def check_page_shape(path: Path) -> list[Finding]:
    """Check that a page of the docs names its readers at the start and the next pages at the end.

    Args:
        path (Path): A page of the docs.

    Returns:
        list[Finding]: The findings.
    """
    text = path.read_text()
    found = []
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text.strip())]
    if len(paragraphs) < 2 or not paragraphs[1].startswith(AUDIENCE):
        found.append(Finding(path, 3, f"the first paragraph begins with {AUDIENCE.strip()!r} and the page's readers"))
    headings = re.findall(r"^## .*$", _blank(_BLOCK, text), re.MULTILINE)
    if headings[-1:] != [LAST_HEADING]:
        found.append(Finding(path, text.count("\n"), f"the last heading of the page is {LAST_HEADING!r}"))
    return found


def check_readme(path: Path) -> list[Finding]:
    """Check the limits of the README: words, links and columns.

    Args:
        path (Path): The README.

    Returns:
        list[Finding]: The limits that it exceeds.
    """
    text = path.read_text()
    words, links = len(text.split()), len(re.findall(r"\]\(", text))
    found = [
        Finding(path, number, f"{len(line)} characters; at most {README_COLUMNS}")
        for number, line in enumerate(text.splitlines(), start=1)
        if len(line) > README_COLUMNS
    ]
    if words > README_WORDS:
        found.append(Finding(path, 1, f"{words} words; at most {README_WORDS}"))
    if links > README_LINKS:
        found.append(Finding(path, 1, f"{links} links; at most {README_LINKS}"))
    return found


def check_code(path: Path, messages: bool = True) -> list[Finding]:
    """Check the English of a Python file: docstrings, comments, and messages of at least four words.

    Args:
        path (Path): The file.
        messages (bool): Whether to read strings too. Defaults to True. Tests quote other projects' messages.

    Returns:
        list[Finding]: The findings, in the order of the file.
    """
    source = path.read_text()
    tree = ast.parse(source)
    found, docstrings = [], set()
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        docstring = node.body[0]
        docstrings.add(docstring.lineno)
        if text.split()[0] in FIRST_WORDS:
            begin = "a verb" if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) else "a noun"
            found.append(Finding(path, docstring.lineno, f"a docstring begins with {begin}, not {text.split()[0]!r}"))
        text = _without_code(_ARGUMENT.sub("x:", text))
        found += [Finding(path, docstring.lineno + at, message) for at, message in _unclear(text)]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found += [Finding(path, token.start[0], message) for _, message in _unclear(_without_code(token.string))]
    if messages:
        found += _unclear_messages(path, tree, docstrings)
    return sorted(set(found))


def _unclear_messages(path: Path, tree: ast.AST, docstrings: set[int]) -> Iterator[Finding]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or node.lineno in docstrings:
            continue
        if len(node.value.split()) >= 4:
            for at, message in _unclear(_without_code(node.value)):
                yield Finding(path, node.lineno + at, message)


def _unclear(text: str) -> Iterator[tuple[int, str]]:
    """Find phrases of a text: the line within it, from 0, and the advice."""
    for phrase, advice in _PHRASES.items():
        for match in phrase.finditer(text):
            sentence = _SENTENCE_END.split(text[match.start() :], maxsplit=1)[0]
            if match[0].lower() == "what" and sentence.rstrip().endswith("?"):
                continue
            yield text.count("\n", 0, match.start()), f"{match[0]!r}: {advice}"


def _long_sentences(text: str) -> Iterator[tuple[int, str]]:
    """Find the sentences of a paragraph that are too long: the line within it, from 0, and the number of words."""
    start = 0
    for sentence in _SENTENCE_END.split(text):
        words = len(sentence.split())
        if words > MAX_WORDS:
            yield text.count("\n", 0, text.find(sentence, start)), f"a sentence of {words} words; at most {MAX_WORDS}"
        start = text.find(sentence, start)


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for end in _PARAGRAPH.finditer(text):
        yield start, text[start : end.start()]
        start = end.end()
    yield start, text[start:]


def _without_code(text: str) -> str:
    """Replace inline code, quoted names and addresses. Line breaks within code stay."""
    text = _INLINE.sub(lambda match: "x" + "\n" * match[0].count("\n"), text)
    return _ADDRESS.sub("x", _QUOTED.sub("x", text))


def _blank(pattern: re.Pattern[str], text: str) -> str:
    """Replace matches of a pattern by their line breaks, so that all other lines keep their numbers."""
    return pattern.sub(lambda match: "\n" * match[0].count("\n"), text)


def check_repository(root: Path, files: list[Path]) -> list[Finding]:
    """Check the English of files of the repository, each by the rules for its kind.

    Args:
        root (Path): The repository.
        files (list[Path]): Markdown pages and Python files, within ``root``.

    Returns:
        list[Finding]: The findings, file by file.
    """
    found: list[Finding] = []
    for path in files:
        place = path.relative_to(root)
        if path.suffix == ".py":
            found += check_code(path, messages=place.parts[0] != "tests")
        elif path.name != "CHANGELOG.md":
            found += check_page(path)
            if place == Path("README.md"):
                found += check_readme(path)
            if place.parts[0] == "docs" and path.name != "index.md":
                found += check_page_shape(path)
    return found

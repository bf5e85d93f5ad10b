"""Tests of the prose linter: each rule finds its example, and clean text and code give no finding."""

import pytest
from tool_modules import load_tool

from projects.documentation.prose import check_code, check_page, check_page_shape, check_readme, check_repository

CLEAN = "Set the mask ratio in the config. Then train the model."
UNCLEAR = [
    ("The log shows what was masked.", "'what': name the thing"),
    ("Use whatever checkpoint fits.", "'whatever': name the thing"),
    ("The losses are those of the masked tokens.", "'those of': repeat the noun"),
    ("A clip of which half is masked.", "'of which': repeat the noun"),
    ("The model predicts hidden tokens.", "'hidden': say masked"),
    ("The features can be told apart.", "'told apart': say classify"),
    ("The model tells the ten digits apart.", "'tells the ten digits apart': say classify"),
    ("A checkpoint can be had from the zoo.", "'be had': put the actor"),
    ("Another sample stands in its place.", "'in its place': say instead"),
    ("The file is written anew.", "'anew': say again"),
    ("The process waits for ever.", "'for ever': say forever"),
    ("HOG losses are small by nature.", "'by nature': give the reason"),
    ("The mask and the tokens therein.", "'therein': say it in plain words"),
]
CLEAR = [
    CLEAN,
    "What does the model predict? It predicts HOG.",
    "The hidden layers have 384 channels, and hidden files are skipped.",
    "Run `maskfeat what` or read `those of` the log.",
    "```python\nprint('what was masked')  # those of the clip\n```",
    "1. A step\n\n   ```shell\n   whatever --of which\n   ```",
    "<!-- what a reader does not see -->\nThe text.",
    "Read [the section](page.md#what-is-masked) and https://example.org/what-it-is.",
]
LONG = "The model " + "predicts the masked tokens and " * 8 + "stops."  # 43 words


def messages(findings):
    return [finding.message for finding in findings]


@pytest.fixture
def check(tmp_path):
    """Function that writes a text into a file and returns the messages of a check."""

    def run(function, text, name="page.md", **options):
        (tmp_path / name).write_text(text)
        return messages(function(tmp_path / name, **options))

    return run


@pytest.mark.parametrize("text, advice", UNCLEAR)
def test_an_unclear_phrase_is_found_in_pages_docstrings_comments_and_messages(check, text, advice):
    code = f'"""{text}"""\n\n\ndef f(x):\n    # {text}\n    raise ValueError(f"{text} {{x}}")\n'
    for found in (check(check_page, f"# Title\n\n{text}\n"), *([m] for m in check(check_code, code, "code.py"))):
        assert len(found) == 1 and found[0].startswith(advice)
    assert len(check(check_code, code, "code.py")) == 3
    assert len(check(check_code, code, "code.py", messages=False)) == 2


@pytest.mark.parametrize("text", CLEAR)
def test_clear_text_and_code_have_no_finding(check, text):
    assert check(check_page, f"# Title\n\n{text}\n") == []


def test_findings_have_the_line_of_the_phrase(tmp_path):
    page, code = tmp_path / "page.md", tmp_path / "code.py"
    page.write_text("# Title\n\n```\nwhat\n```\n\nOne [link\nin two](lines.md) lines,\nand what follows.\n")
    code.write_text(
        '"""Module.\n\nIt does ``x\ny`` and\nwhat not.\n"""\n\nTEXT = """Several lines with\na word anew\n"""\n'
    )
    assert [finding.line for finding in check_page(page)] == [9]
    assert [finding.line for finding in check_code(code)] == [5, 9]
    assert str(check_page(page)[0]).startswith(f"{page}:9: 'what': ")


def test_long_sentences_are_found_in_paragraphs_but_not_in_tables(check):
    assert check(check_page, f"# Title\n\n{LONG}\n") == ["a sentence of 43 words; at most 40"]
    assert check(check_page, f"| table |\n| --- |\n| {LONG} |\n") == []
    parts = LONG.split(" and ")
    assert check(check_page, "".join(f"- {part}\n" for part in parts)) == []  # items of a list
    assert check(check_page, f"{'. The model '.join(parts)}\n") == []


@pytest.mark.parametrize(
    "code, message",
    [
        ('"""What a model predicts."""', "a docstring begins with a noun, not 'What'"),
        ('class A:\n    """Which tokens are masked."""', "a docstring begins with a noun, not 'Which'"),
        ('def f():\n    """Whether a token is masked."""', "a docstring begins with a verb, not 'Whether'"),
    ],
)
def test_first_words_of_docstrings(check, code, message):
    assert message in check(check_code, code + "\n", "code.py")


@pytest.mark.parametrize(
    "code",
    [
        '"""Masks of clips."""\n\n\ndef f():\n    """Return the mask."""\n',
        'def f(what):\n    """Read a file.\n\n    Args:\n        what (str): The file.\n    """\n',
        "what = those = of = which = 1  # a name is no prose\n",
        "TEXT = 'what'  # three words or less are a name\n",
        "raise ValueError(\"model.what: the key 'what' is unknown. Remove the key 'what'.\")\n",
        'STYLE = "div { overflow: hidden; } p { margin: 0 }"\n',
    ],
)
def test_clean_code_has_no_finding(check, code):
    assert check(check_code, code, "code.py") == []


def test_a_page_names_its_readers_and_the_next_pages(check):
    good = "# Title\n\nFor users of clips.\n\n## Steps\n\nText.\n\n## Where to go next\n\n- [data](data.md)\n"
    assert check(check_page_shape, good) == []
    [reader] = check(check_page_shape, good.replace("For users", "About users"))
    [last] = check(check_page_shape, good.replace("## Where to go next", "## More"))
    assert "the first paragraph begins with 'For'" in reader and "'## Where to go next'" in last
    hidden = good + "\n```markdown\n## Heading in code\n```\n"
    assert check(check_page_shape, hidden) == []
    assert len(check(check_page_shape, "# Title\n")) == 2


def test_limits_of_the_readme(check):
    line = "word " * 20 + "\n"
    assert check(check_readme, line * 45) == []
    assert check(check_readme, line * 46) == ["920 words; at most 900"]
    assert check(check_readme, "[a](b.md)\n" * 26) == ["26 links; at most 25"]
    assert check(check_readme, "x" * 121) == ["121 characters; at most 120"]


def test_each_file_is_checked_by_the_rules_for_its_kind(tmp_path):
    long_line = "The readme has a very long line. " * 4 + "\n"
    files = {
        "README.md": long_line,
        "CHANGELOG.md": "- 1.0 says what changed\n",
        "docs/index.md": "# Title\n\nText.\n",
        "docs/page.md": "# Title\n\nText.\n",
        "tests/test_a.py": "assert 'the log says what was wrong' in log\n",
        "package/a.py": "print('the log says what was wrong')\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = check_repository(tmp_path, [tmp_path / name for name in files])
    names = [finding.path.relative_to(tmp_path).as_posix() for finding in found]
    assert names == ["README.md", "docs/page.md", "docs/page.md", "package/a.py"]


def test_the_tool_prints_findings_and_gives_the_status(tmp_path, capsys, monkeypatch):
    tool = load_tool("check_prose")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# Title\n\nThe file is written anew.\n")
    (tmp_path / "b.md").write_text(f"# Title\n\n{CLEAN}\n")
    assert tool.main([str(tmp_path / "b.md")]) == 0 and capsys.readouterr().out == ""
    assert tool.main([str(tmp_path / "a.md"), str(tmp_path / "b.md")]) == 1
    printed = capsys.readouterr()
    assert printed.out == "a.md:3: 'anew': say again\n" and printed.err == "1 places in 1 files\n"

"""Tests of the fixture that opens pages: it finds faults of a page."""

import os
import subprocess
import sys

import pytest

PAGE = """<!DOCTYPE html><html lang="en"><head><title>t</title><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>:root { color-scheme: light dark } @media (prefers-color-scheme: dark) { p { color: STYLE } }</style>
</head><body><h1>Heading</h1><p>Text.</p>BODY</body></html>"""


@pytest.fixture
def look(open_page, tmp_path):
    def look(body="", style="#fff", **settings):
        path = tmp_path / "page.html"
        path.write_text(PAGE.replace("BODY", body).replace("STYLE", style))
        return open_page(path, **settings)

    return look


def test_a_page_without_faults_passes(look):
    for dark in (False, True):
        facts = look(dark=dark)
        facts.check()
        assert facts.headings == [[1, "Heading"]] and facts.widths == [360, 360]


@pytest.mark.parametrize(
    "body",
    [
        '<div style="width: 500px">wide</div>',
        '<img alt="none" src="data:image/png;base64,AAAA">',
        '<svg role="img" aria-label="none" width="0" height="0"></svg>',
        '<svg role="img" width="9" height="9"></svg>',
        "<script>console.error('no')</script>",
        "<script>throw new Error('no')</script>",
        '<script src="data:text/javascript,fetch(`http://127.0.0.1:9/x`)"></script>',
        '<img alt="a file" src="other.png">',
        "<h3>Two levels down</h3>",
        '<p style="color: #888">pale</p>',
        '<details><summary>more</summary><p style="color: #888">pale</p></details>',
    ],
)
def test_a_fault_fails(look, body):
    with pytest.raises(AssertionError):
        look(body).check()


def test_contrast_is_that_of_the_mode(look):
    look(style="#333").check()
    look(style="#ccc", dark=True).check()
    with pytest.raises(AssertionError):
        look(style="#333", dark=True).check()


def test_contrast_is_that_of_the_guidelines(look):
    (found,) = [t["contrast"] for t in look('<b style="color: #777; background: #fff">b</b>').texts if t["text"] == "b"]
    assert found == pytest.approx(4.48, abs=0.005)


def test_the_window_is_as_wide_as_asked_for(look, tmp_path):
    facts = look('<div style="width: 500px">wide</div>', width=800, screenshot=tmp_path / "page.png")
    facts.check()
    assert facts.widths == [800, 800] and (tmp_path / "page.png").stat().st_size > 1000


@pytest.mark.parametrize("required", ["", "1"])
def test_without_a_browser_one_line_says_so(tmp_path, required):
    """Tests that need a browser are skipped, or fail if a browser is required."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", __file__]
    command += ["-k", "test_a_page_without_faults or test_the_window_is"]
    env = {**os.environ, "PATH": str(tmp_path), "REQUIRE_BROWSER": required}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    lines = [line for line in done.stdout.splitlines() if line.startswith("2 tests skipped: ")]
    assert len(lines) == (0 if required else 1) and done.returncode == (1 if required else 0), done.stdout
    assert "apt install chromium" in done.stdout and ("2 errors" in done.stdout) == bool(required)

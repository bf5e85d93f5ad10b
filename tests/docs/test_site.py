"""Tests of the documentation site: it is complete, has no warnings, needs no network, and its links work."""

import re
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from browser import ARGUMENTS
from playwright.sync_api import expect, sync_playwright

import maskfeat_plugin
from maskfeat_plugin import registry
from projects.documentation.links import broken_links
from projects.documentation.pages import repository_pages, rewrite_links
from projects.documentation.reference import reference_pages

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
for name in registry.__all__:
    getattr(registry, name).import_from_location()
OURS = [
    (name, key)
    for name in registry.__all__
    for key, component in getattr(registry, name).module_dict.items()
    if component.__module__.startswith("maskfeat_plugin.")
]


def identify(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Folder of the site, built with the command of ``make docs`` into a temporary folder."""
    folder = tmp_path_factory.mktemp("site") / "site"
    recipe = re.search(r"^docs: setup\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    command = recipe.replace("$(BIN)/mkdocs", f"{sys.executable} -m mkdocs") + f" --site-dir {folder}"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr and "ERROR" not in done.stderr, done.stderr
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def address(site):
    """Address of the served site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_site(site, address, request):
    """One test, so that the site is built once, however many processes run the tests."""
    every_page_is_there_with_what_the_registries_hold(site)
    open_page, chromium = request.getfixturevalue("open_page"), request.getfixturevalue("chromium")
    from_disk = open_page(site / "concepts.html", width=1200)
    assert from_disk.errors == [] and all(url.startswith(site.as_uri()) for url in from_disk.requests)
    assert len(from_disk.figures) == 4 and all(figure["loaded"] for figure in from_disk.figures)
    pages_ask_nothing_of_others_and_the_search_finds(address, chromium)
    pages_ask_nothing_of_others_and_the_search_finds(site.as_uri(), chromium)


def every_page_is_there_with_what_the_registries_hold(site):
    for page in (ROOT / "docs").rglob("*.md"):
        assert (site / page.relative_to(ROOT / "docs")).with_suffix(".html").exists(), page
    for page in ("index", "CONTRIBUTING", "CHANGELOG", "configs/demo"):
        assert (site / "repository" / f"{page}.html").exists(), page
    reference = {path.name: path.read_text() for path in (site / "reference").glob("*.html")}
    index = reference.pop("index.html")
    for _, key in OURS:
        pages = [name for name, text in reference.items() if f'<h2 id="{key.lower()}">' in text]
        assert len(pages) == 1, key
        assert f'href="{pages[0]}#{key.lower()}"' in index
    # keys, defaults and explanations
    hog = re.sub(r"<[^>]+>", "", reference["target_generators.html"])
    assert "nbins=9," in hog and "Orientation bins over 180 degrees" in hog
    assert ":class:" not in hog


def pages_ask_nothing_of_others_and_the_search_finds(address, chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        page = browser.new_context(viewport=dict(width=400, height=800), color_scheme="dark").new_page()
        requests, errors = [], []
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("index", "concepts", "reference/backbones", "repository/index", "model_zoo"):
            page.goto(f"{address}/{name}.html", wait_until="networkidle")
            assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)"), name
            assert page.evaluate("document.body.dataset.mdColorScheme") == "slate"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} scrolls sideways"
        page.set_viewport_size(dict(width=1400, height=900))
        page.click("input.md-search__input")
        page.keyboard.type("MaskRatioHook", delay=20)
        # the results change with each letter
        expect(page.locator(".md-search-result__list")).to_contain_text("MaskRatioHook", timeout=60_000)
        browser.close()
    assert requests and [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []


def test_a_component_has_one_section_with_all_its_keys():
    pages = reference_pages()
    text = "\n".join(text for name, (_, text) in pages.items() if name != "index.md")
    for _, key in OURS:
        assert text.count(f"## {key} {{") == 1, key
    section = text.partition("## MaskedViT {")[2].partition("\n## ")[0]
    # its own key, inherited keys, and the class that they come from
    assert 'type="maskfeat.MaskedViT"' in section and 'arch="base"' in section
    assert "# keys of mmpretrain.VisionTransformer" in section and "patch_size=16" in section
    section = text.partition("## CubeMaskGenerator {")[2].partition("\n## ")[0]
    assert "token_grid=...," in section  # a key without default
    # keys are explained by the class or by a base class of this package; "See ..." is not an explanation
    assert "masking.base.BaseMaskGenerator\n    options:" in section


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_links_lead_to_something(page):
    assert broken_links(page, ROOT) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "here.md").write_text("")
    page = tmp_path / "docs" / "page.md"
    page.write_text(
        "[a](../here.md#x) [`b`](gone.md) ![c](gone.png) [d](https://example.org/e) [f](#g)\n\n"
        "```\n[h](in_code.md)\n```\n`[i](in_code.md)` [j](../../outside.md)\n"
    )
    assert broken_links(page, tmp_path) == ["docs/gone.md", "docs/gone.png", "../outside.md"]


def test_links_out_of_the_docs_lead_to_pages_of_the_site(tmp_path):
    for path in ("docs/deep", "configs/demo"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "docs/deep/a.md").write_text("[c](../../configs/demo) [r](../../README.md#top) [b](../b.md)")
    (tmp_path / "docs/b.md").write_text("[config](../configs/demo/x.py) [gone](../gone.py)")
    (tmp_path / "README.md").write_text("[b](docs/b.md) [config](configs/demo/x.py)")
    (tmp_path / "configs/demo/x.py").write_text("model = dict()\n")
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        (tmp_path / name).write_text("")
    pages = repository_pages(tmp_path)
    assert set(pages) == {
        f"repository/{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "configs/demo", "configs/demo/x.py")
    }
    assert "model = dict()" in pages["repository/configs/demo/x.py.md"]
    assert "[x.py](demo/x.py)" in pages["repository/configs/demo.md"]

    def rewritten(text, page):
        return rewrite_links(text, page, tmp_path)

    assert rewritten("[c](../../configs/demo)", "deep/a.md") == "[c](../repository/configs/demo.md)"
    assert rewritten("[r](../../README.md#top)", "deep/a.md") == "[r](../repository/README.md#top)"
    assert rewritten("[b](../b.md#x)", "deep/a.md") == "[b](../b.md#x)"
    assert rewritten("[g](../gone.py)", "b.md") == "[g](../gone.py)"  # the build reports this link
    assert rewritten("[b](docs/b.md)", "repository/README.md") == "[b](../b.md)"
    assert rewritten("[x.py](demo/x.py)", "repository/configs/demo.md") == "[x.py](demo/x.py.md)"


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_python_compiles_and_names_exist(page):
    text = page.read_text()
    for code in re.findall(r"^```python\n(.+?)^```", text, re.MULTILINE | re.DOTALL):
        compile(code, identify(page), "exec")
    known = {key for _, key in OURS} | set(re.findall(r"^class (\w+)", text, re.MULTILINE)) | {"X", "Name"}
    assert set(re.findall(r"\bmaskfeat\.([A-Z]\w+)", text)) <= known


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_commands_name_files_that_exist(page):
    for path in re.findall(r"(?:^|[ (])((?:tools|configs)/[\w./-]+\.(?:py|sh))\b", page.read_text(), re.MULTILINE):
        if path not in ("configs/action_detection/mine.py",):  # the reader's own
            assert (ROOT / path).exists(), path


def test_version_is_one():
    version = maskfeat_plugin.__version__
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == version


def test_citation_has_what_its_schema_wants():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    paper = citation["preferred-citation"]
    assert {"type", "title", "authors"} <= set(paper) and paper["year"] == 2022
    names = [author["family-names"] for author in paper["authors"]]
    assert names == ["Wei", "Fan", "Xie", "Wu", "Yuille", "Feichtenhofer"]


def test_workflow_runs_targets_of_the_makefile():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    runs = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    made = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(runs)))
    assert made == {"setup", "test", "test-slow", "test-cluster", "docs"} <= targets
    assert all(("uses" in step) != ("run" in step) for job in workflow["jobs"].values() for step in job["steps"])


def test_workflow_tests_the_oldest_and_the_newest_python():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "setup.py").read_text())
    assert pythons == [named[0], named[-1]]
    [test] = [step for step in workflow["jobs"]["test"]["steps"] if step.get("run") == "make test"]
    assert test["env"] == {"REQUIRE_BROWSER": 1}

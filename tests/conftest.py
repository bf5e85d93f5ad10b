"""Fixtures and settings of all tests."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

# Without a GPU, Triton's kernels run in its interpreter. The variable has to be set before Triton is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import maskfeat_plugin  # noqa: E402, F401 (mmaction2 needs its repairs, and any test may be the first)

# The same examples on every machine and in every run, so that a failure in CI can be reproduced.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


NO_BROWSER = "Chromium, in which they open pages, is not installed (Debian, Ubuntu: apt install chromium)"


def _without_what_runners_leave():
    """Reset the default scope and the log file of a runner. The next test depends on the number of test workers."""
    before = {left: dict(left._instance_dict) for left in (DefaultScope, MMLogger)}
    yield
    for left, instances in before.items():
        left._instance_dict.clear()
        left._instance_dict.update(instances)


alone_in_a_test = pytest.fixture(autouse=True)(_without_what_runners_leave)
# also after a runner in a fixture of a module
alone_in_a_module = pytest.fixture(autouse=True, scope="module")(_without_what_runners_leave)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Return a folder with a tiny MovingDigits at ``data/moving_digits``, where the demo's configs expect it."""
    from maskfeat_plugin.datasets.moving_digits import build_moving_digits
    from projects.demo.orchestrate import DATA

    folder = tmp_path_factory.mktemp("project")
    root = folder / "data" / "moving_digits"
    config = dataclasses.replace(DATA, num_train=32, num_val=8, num_test=8, labelled=(8,))
    build_moving_digits(root, config, workers=1, progress=False)
    for file in (root / "annotations").glob("*_train_8_seed0.*"):  # the configs name a subset of 1000
        file.with_name(file.name.replace("_8_", "_1000_")).write_text(file.read_text())
    return folder


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory):
    """Return the folder into which the wheel is installed, for PYTHONPATH. It is outside of any checkout."""
    from builds import build, copy_sources, install

    folder = tmp_path_factory.mktemp("wheel")
    return install(build(copy_sources(folder / "source"), "wheel", folder / "dist"), folder / "site")


@pytest.fixture(scope="session")
def chromium():
    """Return the path of Chromium. Skip tests that need it if it is not installed, unless REQUIRE_BROWSER is set."""
    path = shutil.which("chromium")
    if path is None:
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(NO_BROWSER)
    return path


def pytest_collection_modifyitems(items):
    """Mark the tests that ``slow_tests.txt`` lists as slow, and the cases that ``long_tests.txt`` lists as long."""
    slow, long = (
        set(Path(__file__).with_name(f"{kind}_tests.txt").read_text().splitlines()) for kind in ("slow", "long")
    )
    for item in items:
        test, bracket, case = item.nodeid.partition("[")
        test = test.replace(".py::", ".").replace("::", ".").replace("/", ".")
        if test in slow:
            item.add_marker(pytest.mark.slow)
        if f"{test}{bracket}{case}" in long:
            item.add_marker(pytest.mark.long)


def pytest_terminal_summary(terminalreporter):
    """Print one line if tests were skipped because there is no browser."""
    skipped = [report for report in terminalreporter.stats.get("skipped", ()) if NO_BROWSER in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests skipped: {NO_BROWSER}")


@pytest.fixture(scope="session")
def open_page(chromium):
    """Return ``open_page(path, width, dark)``, which opens an HTML file in Chromium; see ``Browser`` in browser.py."""
    from browser import Browser

    browser = Browser(chromium)
    yield browser.open_page
    browser.close()

"""Tests of the public names of the package, and of old names that still work for one version."""

import importlib

import pytest

from maskfeat_plugin import apis


def test_every_public_name_is_there_and_documented():
    assert sorted(apis.__all__) == apis.__all__
    for name in apis.__all__:
        assert getattr(apis, name).__doc__, name


@pytest.mark.parametrize("name", ["build_parser", "run_tool"])
def test_moved_functions_warn(name):
    command_line = importlib.import_module("maskfeat_plugin.running.command_line")
    with pytest.warns(DeprecationWarning, match=f"running.command_line.{name}"):
        assert getattr(apis, name) is getattr(command_line, name)


@pytest.mark.parametrize(
    ("module", "name"), [("feature_files", "read_features"), ("feature_search", "search_features")]
)
def test_moved_modules_warn(module, name):
    with pytest.warns(DeprecationWarning, match=f"{name} is in maskfeat_plugin.apis now"):
        old = importlib.reload(importlib.import_module(f"maskfeat_plugin.apis.{module}"))
    assert getattr(old, name) is getattr(apis, name)


def test_other_names_are_errors():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        apis.nothing  # noqa: B018

"""Tests of model-index.yml, the metafiles and the model zoo: up to date, each config once, and mim can read them."""

import json
import os
import re
import subprocess
from pathlib import Path

import modelindex
import pytest
import yaml
from warm_python import python

from maskfeat_cli.named_configs import named_configs
from projects.documentation import model_zoo
from projects.documentation.model_index import FOLDERS, describe_config, model_index_files

ROOT = Path(__file__).parents[2]
CONFIGS = [
    path
    for folder in FOLDERS
    for path in sorted(named_configs().values())
    if path.parent.name == folder and "moving-digits" not in path.stem
]


def test_files_are_what_the_tool_writes():
    """Compare the files with the tool's output. If this fails, run python tools/write_model_index.py."""
    for path, content in model_index_files(ROOT).items():
        assert path.read_text() == content, path


def test_model_zoo_is_what_the_tool_writes():
    """Compare the files with the tool's output. If this fails, run python tools/write_model_index.py."""
    page = (ROOT / model_zoo.PAGE).read_text()
    assert page == model_zoo.model_zoo_page(ROOT)
    for config in CONFIGS:
        assert page.count(f"(../{config.relative_to(ROOT).as_posix()})") == 1


def test_a_number_of_the_zoo_is_of_a_config_that_exists(monkeypatch):
    monkeypatch.setitem(model_zoo.REPORTED, "vit-huge_maskfeat-pre", "99.9, nobody")
    with pytest.raises(ValueError, match="No config is named vit-huge_maskfeat-pre"):
        model_zoo.model_zoo_page(ROOT)


def test_every_config_is_listed_once():
    listed = []
    for file in yaml.safe_load((ROOT / "model-index.yml").read_text())["Import"]:
        listed += [model["Config"] for model in yaml.safe_load((ROOT / file).read_text())["Models"]]
    assert sorted(listed) == sorted(path.relative_to(ROOT).as_posix() for path in CONFIGS) and len(CONFIGS) > 50


def test_the_format_has_no_complaint():
    index = modelindex.load(str(ROOT / "model-index.yml"))
    index.build_models_with_collections()
    assert len(index.models) == len(CONFIGS)
    # paths of pages are relative to the project's root, as in mmpretrain's metafiles; modelindex looks beside the file
    assert [complaint for complaint in index.check(silent=True) if "README" not in complaint] == []


def test_no_entry_states_a_training_that_nobody_ran():
    """Check that recipes have no resources, FLOPs, weights or metrics, which would state a training."""
    index = modelindex.load(str(ROOT / "model-index.yml"))
    index.build_models_with_collections()
    for model in index.models:
        assert model.weights is None and model.metadata.training_resources is None, model.name
        assert all(not result.metrics for result in model.results), model.name
        assert re.fullmatch(r"\d+ GPUs", model.metadata.data["Recipe For"]), model.name


def test_pages_exist():
    for _, page in FOLDERS.values():
        assert (ROOT / page).exists(), page


def test_a_config_without_data_set_in_its_name(tmp_path):
    path = tmp_path / "configs" / "detection" / "mask-rcnn_8xb8_mine.py"
    with pytest.raises(ValueError, match="one of in1k, k400"):
        describe_config(path, tmp_path)


def test_mim_search_lists_the_configs_of_the_built_package(installed_wheel, tmp_path):
    """Search in an unpacked wheel. mim reads a folder of the installed package that an editable install lacks."""
    found = tmp_path / "found.json"
    command = ["-W", "ignore", "-m", "mim", "search", "maskfeat_plugin", "--dataset", "ava v2.2", "--json", found]
    environment = dict(os.environ, PYTHONPATH=str(installed_wheel))
    subprocess.run([python(), *command], check=True, capture_output=True, env=environment, cwd=tmp_path)
    names = {path.stem for path in CONFIGS if path.parent.name == "action_detection"}
    columns = json.loads(found.read_text())
    assert set(columns["config"]) == names
    for config in columns["config"].values():
        assert (installed_wheel / "maskfeat_plugin" / ".mim" / config).exists()

"""Tests of ``maskfeat configs``, which lists and copies configs, and of user configs based on ``maskfeat_plugin::``."""

import pytest
from mmengine.config import Config

from maskfeat_cli.commands import load_main, tools_folder
from maskfeat_cli.config_files import copy_of, described_configs
from maskfeat_cli.named_configs import named_configs
from maskfeat_plugin.config.load import find_config, load_config
from maskfeat_plugin.errors import ConfigError

NAME = "maskfeat_vit-tiny_moving-digits"


@pytest.fixture
def configs(tmp_path, monkeypatch):
    """Function that runs ``maskfeat configs`` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return load_main(tools_folder() / "configs.py")


def test_every_config_is_listed_with_a_line(configs, capsys):
    assert configs([]) == 0
    lines = capsys.readouterr().out.splitlines()
    titles = {name: title for group in described_configs().values() for name, title in group.items()}
    assert titles.keys() == named_configs().keys() and all(titles.values())
    assert {line.strip() for line in lines} >= titles.keys() | set(titles.values())


def test_words_choose(configs, capsys):
    assert configs(["demo", "ava"]) == 0
    assert [line.strip() for line in capsys.readouterr().out.splitlines()][:2] == [
        "demo/",
        "mvit-tiny_moving-digits-ava",
    ]


def test_a_copy_is_written_once(configs, capsys, tmp_path):
    assert configs(["--copy", NAME]) == 0
    assert capsys.readouterr().out == f"{NAME}.py\n"
    content = (tmp_path / f"{NAME}.py").read_text()
    assert configs(["--copy", NAME]) == 1
    assert capsys.readouterr().err == f"error: --out {NAME}.py: the file exists. Give another name.\n"
    assert (tmp_path / f"{NAME}.py").read_text() == content
    assert configs(["--copy", "none"]) == 1 and "no config of this name" in capsys.readouterr().err


def test_a_copy_of_each_config_has_its_settings(tmp_path):
    for name, path in named_configs().items():
        copy = tmp_path / f"{name}.py"
        copy.write_text(copy_of(path))
        assert Config.fromfile(copy).to_dict() == Config.fromfile(path).to_dict(), name


def test_a_config_builds_on_ours_by_its_reference(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f'_base_ = ["maskfeat_plugin::demo/{NAME}.py"]\ntrain_cfg = dict(max_iters=3)\n')
    cfg = load_config(path)
    assert cfg.train_cfg.max_iters == 3
    assert cfg.model == load_config(NAME).model  # no _scope_ is added
    reference = f"maskfeat_plugin::demo/{NAME}.py"
    assert find_config(reference) == find_config(NAME) == find_config(reference.removesuffix(".py"))


def test_a_reference_to_nothing_is_named(tmp_path):
    with pytest.raises(
        ConfigError, match=r"maskfeat_plugin::demo/none\.py: there is no file .* maskfeat configs lists"
    ):
        find_config("maskfeat_plugin::demo/none.py")
    path = tmp_path / "mine.py"
    path.write_text('_base_ = "maskfeat_plugin::demo/none.py"\n')
    with pytest.raises(ConfigError, match=r"mine\.py cannot be read.*demo/none\.py: there is no file"):
        load_config(path)
    path.write_text('_base_ = "mmdetection::demo/none.py"\n')
    with pytest.raises(ConfigError, match="does not support to load mmdetection"):
        load_config(path)

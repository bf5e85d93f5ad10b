"""config.check is the only entry point of the checks before anything is built."""

import copy
from pathlib import Path

import pytest
from mmengine.config import Config

from maskfeat_plugin.apis import ConfigError, load_config
from maskfeat_plugin.config import check, knn_dataloaders

CONFIGS = Path(__file__).parents[2] / "configs" / "demo"


@pytest.fixture
def fine_tuning(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(digits)
    return load_config(CONFIGS / "vit-tiny_moving-digits-class.py", str(tmp_path))


def test_a_config_that_works_is_not_changed(fine_tuning):
    before = copy.deepcopy(fine_tuning._cfg_dict.to_dict())
    for stage in ("train", "test", "knn"):
        check(fine_tuning, stage)
    assert fine_tuning._cfg_dict.to_dict() == before


@pytest.mark.parametrize(
    ("stage", "key", "value", "message"),
    [
        ("train", "optim_wrapper", None, "has no optim_wrapper"),
        ("train", "train_dataloader.dataset.data_root", "gone", r"^train_dataloader\.dataset\.data_root='gone'"),
        ("train", "val_dataloader.dataset.data_root", "gone", r"^val_dataloader\.dataset\.data_root='gone'"),
        ("train", "load_from", "gone.pth", "^load_from='gone.pth'"),
        ("test", "test_dataloader.dataset.ann_file", "gone.txt", r"^test_dataloader\.dataset\.ann_file='gone.txt'"),
        ("test", "test_cfg", None, "has no test_dataloader and test_cfg"),
        ("knn", "val_dataloader.dataset.data_root", "gone", r"^val_dataloader\.dataset\.data_root='gone'"),
        ("knn", "train_dataloader", None, "has no labelled data to evaluate on"),
    ],
)
def test_what_a_stage_needs_is_checked(fine_tuning, stage, key, value, message):
    fine_tuning.merge_from_dict({key: value})
    with pytest.raises(ConfigError, match=message):
        check(fine_tuning, stage)


@pytest.mark.parametrize(
    ("stage", "key", "value"),
    [
        ("train", "test_dataloader.dataset.ann_file", "gone.txt"),
        ("test", "train_dataloader.dataset.data_root", "gone"),
        ("knn", "load_from", "gone.pth"),
        ("knn", "optim_wrapper.type", "AmpOptimWrapper"),
    ],
)
def test_what_a_stage_does_not_use_may_be_wrong(fine_tuning, stage, key, value):
    fine_tuning.merge_from_dict({key: value})
    check(fine_tuning, stage)


def test_queries_of_knn_are_the_test_data_where_there_are_no_others():
    cfg = Config(dict(train_dataloader={}, val_dataloader=None, test_dataloader={}))
    assert knn_dataloaders(cfg) == ("train_dataloader", "test_dataloader")


def test_an_unknown_stage_is_named(fine_tuning):
    with pytest.raises(ValueError, match="stage='export' is unknown"):
        check(fine_tuning, "export")

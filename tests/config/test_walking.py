"""The only walk over a config: every part comes with the key that the user wrote."""

import copy

import pytest
from mmengine.config import Config

from maskfeat_plugin.config.walking import every_part, flatten, leaf_datasets, remove_weights, replace_text, walk
from maskfeat_plugin.errors import ConfigError

DATASET = dict(type="A", data_root="data/a", pipeline=[dict(type="Load"), dict(type="Apply", transforms=(dict(p=1),))])
LOADER = dict(
    batch_size=2,
    dataset=dict(
        type="ConcatDataset",
        datasets=[dict(type="RepeatDataset", times=2, dataset=DATASET), dict(type="B", ann_file="data/b.txt")],
    ),
)


def test_keys_lead_to_their_parts():
    cfg = Config(dict(train_dataloader=LOADER))
    keys = dict(every_part(dict(cfg.items())))
    assert keys["train_dataloader.dataset.datasets[0].dataset.pipeline[1].transforms[0].p"] == 1
    assert [key for key, _ in walk(LOADER["dataset"]["datasets"], "d")] == [
        *("d[0]", "d[0].dataset", "d[0].dataset.pipeline[0]", "d[0].dataset.pipeline[1]"),
        *("d[0].dataset.pipeline[1].transforms[0]", "d[1]"),
    ]


def test_data_sets_inside_wrappers():
    found = dict(leaf_datasets(LOADER, "train_dataloader"))
    assert {key: part["type"] for key, part in found.items()} == {
        "train_dataloader.dataset.datasets[0].dataset": "A",
        "train_dataloader.dataset.datasets[1]": "B",
    }
    assert not list(leaf_datasets(None, "val_dataloader"))


def test_settings_of_a_component_alone():
    neck = dict(type="Neck", size=(3, 4), empty={}, act=dict(type="GELU"), arch=dict(depth=2, inner=dict(heads=1)))
    neck["parts"] = [dict(type="Part", size=5)]
    assert dict(flatten(neck)) == {"size": (3, 4), "empty": {}, "arch.depth": 2, "arch.inner.heads": 1}


def test_changes_in_place():
    loader = copy.deepcopy(LOADER)
    loader["names"] = ["data/c", ["data/d"], 1]
    replace_text(loader, lambda text: text.replace("data/", "/mnt/"))
    first, second = loader["dataset"]["datasets"]
    assert (first["dataset"]["data_root"], second["ann_file"]) == ("/mnt/a", "/mnt/b.txt")
    assert loader["names"] == ["/mnt/c", ["/mnt/d"], 1]
    model = dict(init_cfg=dict(type="P"), neck=dict(size=1, init_cfg=[dict(type="Q")]), heads=[dict(init_cfg=None)])
    remove_weights(model)
    assert model == dict(neck=dict(size=1), heads=[{}])


def test_a_part_that_holds_itself_is_named():
    loader = copy.deepcopy(LOADER)
    loader["dataset"]["datasets"].append(loader["dataset"])
    with pytest.raises(ConfigError, match=r"^train_dataloader\.dataset\.datasets\[2\] of the config holds itself"):
        list(walk(loader, "train_dataloader"))

"""Tests of the training on a folder: its files and classes, and the configs that are written for it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DefaultScope

from maskfeat_plugin.apis.folder_training import (
    Settings,
    describe_duration,
    find_classes,
    finetuning_config,
    look_into,
    pretraining_config,
    set_length,
)
from maskfeat_plugin.apis.folder_training.folder_contents import _hold_out
from maskfeat_plugin.apis.folder_training.pretraining import MODELS_OF, without_flips
from maskfeat_plugin.apis.model_loading import build_model, find_model
from maskfeat_plugin.config import check
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import MODELS

IMAGES, CLIPS = "maskfeat_vit-tiny_moving-digits", "maskfeat_mvit-tiny_moving-digits"


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    return root


@pytest.fixture
def photos(tmp_path):
    return fill(tmp_path / "photos", *(f"{name}/{i}.jpg" for name in ("cat", "dog") for i in range(5)))


@pytest.fixture
def clips(tmp_path):
    return fill(tmp_path / "clips", *(f"{name}/{i}.mp4" for name in ("left", "right") for i in range(3)))


def test_the_kind_with_more_files_is_used_and_the_others_are_named(tmp_path):
    fill(tmp_path, "a.jpg", "b/c.PNG", "d.mp4", "e.txt", ".f.jpg")
    contents = look_into(tmp_path)
    assert contents.kind == "image" and [path.name for path in contents.files] == ["a.jpg", "c.PNG"]
    assert contents.describe() == (
        f"{tmp_path}: 2 images will be used.\nSkipped: 1 video (--kind video would use them instead); "
        "1 of another ending (.txt: 1); 1 hidden file(s) (a dot first)."
    )
    assert [path.name for path in look_into(tmp_path, "video").files] == ["d.mp4"]


@pytest.mark.parametrize(
    "kind, wanted", [(None, r"\.jpg.*\.mp4"), ("video", r"end in \.mp4"), ("image", r"end in \.jpg")]
)
def test_a_folder_without_files_is_refused(kind, wanted, tmp_path):
    with pytest.raises(ConfigError, match=rf"FOLDER: .*{wanted}.*Skipped: 1 of another ending"):
        look_into(fill(tmp_path, "a.txt"), kind)
    with pytest.raises(ConfigError, match="does not exist"):
        look_into(tmp_path / "none")


def test_a_fifth_of_each_class_is_held_out(photos):
    fill(photos, "loose.jpg")
    found = find_classes(photos)
    assert found.names == ["cat", "dog"]
    assert sorted(label for _, label in found.train) == [0] * 4 + [1] * 4
    assert sorted(label for _, label in found.val) == [0, 1]
    assert "Skipped: 1 that are not in the folder of a class" in found.describe()
    assert "2 classes (cat, dog): 8 for training and 2 for validation." in found.describe()
    assert find_classes(photos).val == found.val
    assert len(find_classes(photos, val_share=0.6).val) == 6


@given(st.integers(2, 60), st.floats(0.01, 0.99))
def test_both_parts_have_files_and_together_all(count, share):
    files = [f"a/{i}.jpg" for i in range(count)]
    train, val = _hold_out({"a": files}, share)
    assert train["a"] and val["a"] and sorted(train["a"] + val["a"]) == sorted(files)


@pytest.mark.parametrize("train, val", [("train", "val"), ("training", "test"), ("train", "validation")])
def test_parts_that_are_given_are_taken(train, val, tmp_path):
    fill(
        tmp_path, f"{train}/a/1.jpg", f"{train}/b/1.jpg", f"{train}/b/deeper/2.jpg", f"{val}/a/1.jpg", f"{val}/b/3.jpg"
    )
    found = find_classes(tmp_path)
    assert found.train == [(f"{train}/a/1.jpg", 0), (f"{train}/b/1.jpg", 1), (f"{train}/b/deeper/2.jpg", 1)]
    assert found.val == [(f"{val}/a/1.jpg", 0), (f"{val}/b/3.jpg", 1)]


@pytest.mark.parametrize(
    "names, wanted",
    [
        (["a.jpg"], "has 0 folders of classes"),
        (["a/1.jpg", "a/2.jpg"], "has 1 folders of classes"),
        (["a/1.jpg", "b/1.jpg", "b/2.jpg"], "the class 'a' has one file"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"], "the class 'b' has no files for validation"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/1.jpg", "val/c/1.jpg"], "'c' has no files for train"),
        (["a/1.jpg", "a/2\n.jpg", "b/1.jpg", "b/2.jpg"], r"2\\n\.jpg has a line break"),
        ([os.fsdecode(b"a/\xff.jpg"), "a/2.jpg", "b/1.jpg", "b/2.jpg"], r"\\udcff\.jpg is not UTF-8"),
    ],
)
def test_classes_that_do_not_work_are_refused(names, wanted, tmp_path):
    with pytest.raises(ConfigError, match=f"FOLDER: .*{wanted}"):
        find_classes(fill(tmp_path, *names))


@pytest.mark.parametrize("kind, model", [(kind, name) for kind, models in MODELS_OF.items() for name in models])
def test_every_model_gets_a_config_that_can_be_trained(kind, model, photos, clips, tmp_path):
    contents = look_into(photos if kind == "image" else clips)
    settings = Settings(tmp_path / "run", model, batch_size=3, lr=0.5, num_workers=0, seed=7, flip=False)
    cfg = pretraining_config(contents, settings)
    set_length(cfg, 40)
    check(cfg, "train")
    assert (cfg.train_dataloader.batch_size, cfg.optim_wrapper.optimizer.lr, cfg.randomness.seed) == (3, 0.5, 7)
    assert cfg.train_cfg.max_iters == 40
    assert pretraining_config(contents, replace(settings, amp=True)).optim_wrapper.type == "AmpOptimWrapper"
    assert [part["type"] for part in cfg.param_scheduler] == ["LinearLR", "CosineAnnealingLR"]
    assert not any(step["type"] in ("RandomFlip", "Flip") or step.get("flip_ratio") for step in _pipeline(cfg))
    path = tmp_path / "config.py"
    path.write_text(cfg.pretty_text)
    assert Config.fromfile(path).to_dict() == cfg.to_dict()


@pytest.mark.parametrize("kind, model", [("image", "vit-tiny"), ("video", "mvit-tiny")])
def test_a_training_continues_from_trained_weights(kind, model, photos, clips, tmp_path):
    """Start from the masked model of another training: all parameters are there, and the learning rate is a tenth."""
    contents = look_into(photos if kind == "image" else clips)
    first = pretraining_config(contents, Settings(tmp_path / "first", model))
    torch.manual_seed(1)
    trained = MODELS.build(first.model)
    trained.init_weights()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.rand_like(parameter))
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / "trained.pth")
    settings = Settings(tmp_path / "second", model, weights=str(tmp_path / "trained.pth"))
    second = pretraining_config(contents, settings)
    check(second, "train")
    assert second.optim_wrapper.optimizer.lr == first.optim_wrapper.optimizer.lr
    assert pretraining_config(contents, replace(settings, lr=0.5)).optim_wrapper.optimizer.lr == 0.5
    with DefaultScope.overwrite_default_scope(second.default_scope):
        continued = MODELS.build(second.model)
        continued.init_weights()
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in continued.state_dict().items())


def test_a_model_of_the_other_kind_is_refused(photos, tmp_path):
    with pytest.raises(ConfigError, match="--model mvit-tiny: for images choose one of vit-tiny, vit-base, vit-large"):
        pretraining_config(look_into(photos), Settings(tmp_path, "mvit-tiny"))


@pytest.mark.parametrize(
    "run, folder, backbone",
    [(IMAGES, "photos", "VisionTransformer"), (CLIPS, "photos", "ImageMViT"), (CLIPS, "clips", "MViT")],
)
def test_a_classifier_has_the_encoder_of_the_run(run, folder, backbone, photos, clips, tmp_path):
    labelled = find_classes(dict(photos=photos, clips=clips)[folder])
    cfg = finetuning_config(labelled, run, Settings(tmp_path / "run"))
    check(cfg, "train")
    assert cfg.model.backbone.type == f"maskfeat.{backbone}"
    weights = find_model(run).weights
    assert cfg.model.backbone.init_cfg.checkpoint == str(weights)
    model, _ = build_model(cfg)
    assert model.cls_head.num_classes == 2 if folder == "clips" else model.head.num_classes == 2
    lines = Path(cfg.train_dataloader.dataset.ann_file).read_text().splitlines()
    assert lines == [f"{name} {label}" for name, label in labelled.train]
    assert cfg.train_dataloader.dataset.metainfo.classes == labelled.names
    assert not any("MaskGenerator" in step["type"] for step in _pipeline(cfg))
    assert "Random" not in str(
        [step["type"] for step in cfg.val_dataloader.dataset.pipeline if "max_attempts" not in step]
    )


def test_runs_that_do_not_fit_are_refused(photos, clips, tmp_path):
    settings = Settings(tmp_path / "run")
    with pytest.raises(ConfigError, match="it was pre-trained on images, and .*clips has videos"):
        finetuning_config(find_classes(clips), IMAGES, settings)
    with pytest.raises(ConfigError, match="pre-trained on sounds, and .*photos has images. Write a config for sounds"):
        finetuning_config(find_classes(photos), "maskfeat_vit-tiny_sounds", settings)
    with pytest.raises(ConfigError, match="its model is not a MaskFeat"):
        finetuning_config(find_classes(photos), "vit-tiny_moving-digits-class", settings)
    with pytest.raises(ConfigError, match="there is no checkpoint"):
        finetuning_config(find_classes(photos), "maskfeat_vit-tiny_moving-digits_held-out", settings)


def test_flips_are_left_out_wherever_they_are():
    steps = [
        dict(type="mmpretrain.RandomFlip"),
        dict(type="Flip"),
        dict(type="a.CropFlip", flip_ratio=0.5),
        dict(type="B"),
    ]
    assert without_flips(steps) == [dict(type="a.CropFlip", flip_ratio=0.0), dict(type="B")]


@pytest.mark.parametrize("steps", [1, 2, 9, 15, 1000])
def test_a_training_of_any_length_has_a_schedule(steps, photos, tmp_path):
    cfg = pretraining_config(look_into(photos), Settings(tmp_path / "run"))
    set_length(cfg, steps)
    ends = [part.get("end", steps) for part in cfg.param_scheduler]
    assert ends == sorted(ends) and ends[-1] == steps and cfg.param_scheduler[-1]["begin"] < steps
    assert 1 <= cfg.default_hooks.checkpoint.interval <= steps
    assert cfg.custom_hooks[0]["interval"] == cfg.default_hooks.checkpoint.interval


def test_durations_are_written_for_people():
    texts = [describe_duration(seconds) for seconds in (0.2, 40, 600, 12_600, 260_000)]
    assert texts == ["1 second", "40 seconds", "10 minutes", "3.5 hours", "3.0 days"]


def _pipeline(cfg):
    return cfg.train_dataloader.dataset.pipeline

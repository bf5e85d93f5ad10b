"""Classes that data sets, files, heads and metrics number differently: refused before training, in one line."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from maskfeat_plugin.apis import ConfigError, build_tester, build_trainer, load_config
from maskfeat_plugin.datasets.categories import read_categories

CLASSIFIER = """
default_scope = "mmpretrain"
custom_imports = dict(imports=["maskfeat_plugin"], allow_failed_imports=False)
pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(num_classes=3),
    backbone=dict(
        type="VisionTransformer",
        arch=dict(embed_dims=8, num_layers=1, num_heads=1, feedforward_channels=8),
        img_size=16, patch_size=8, out_type="avg_featmap", final_norm=False,
    ),
    head=dict(type="LinearClsHead", num_classes=3, in_channels=8),
)
data = dict(batch_size=2, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))
train_dataloader = dict(dataset=dict(type="CustomDataset", data_prefix="train", pipeline=pipeline), **data)
val_dataloader = dict(dataset=dict(type="CustomDataset", data_prefix="val", pipeline=pipeline), **data)
test_dataloader = dict(dataset=dict(type="CustomDataset", data_prefix="test", pipeline=pipeline), **data)
val_evaluator = test_evaluator = dict(type="Accuracy", topk=(1,))
val_cfg = test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3))
"""
DEMO = Path(__file__).parents[2] / "configs" / "demo"


def add_images(folder, *classes, count=2):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / name / f"{i}.png"), np.full((16, 16, 3), 60 * i, np.uint8))


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Write photos of cats, dogs and owls in folders, and the config of a classifier for them."""
    monkeypatch.chdir(tmp_path)
    for split in ("train", "val", "test"):
        add_images(tmp_path / split, "cat", "dog", "owl")
    (tmp_path / "classifier.py").write_text(CLASSIFIER)
    return tmp_path


def refusal(config, build=build_trainer, **options):
    """Return the one-line error for a config with other settings; two underscores replace the dots of a key."""
    options = {name.replace("__", "."): value for name, value in options.items()}
    with pytest.raises(ConfigError) as error:
        build(load_config(config, "work", options))
    assert "\n" not in str(error.value)
    return str(error.value)


def remove(folder):
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_that_a_folder_lacks(photos, split):
    remove(photos / split / "dog")
    message = refusal("classifier.py")
    assert f"{split} lacks" in message if split != "train" else "val has the class 'dog', which train lacks" in message
    assert "'dog'" in message and "2" in message and "3" in message
    (photos / split / "dog").mkdir()  # as the message advises
    build_trainer(load_config("classifier.py", "work", {}))


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "zebra", "aardvark"])
def test_a_folder_that_is_no_class_of_the_others(photos, name):
    (photos / "val" / name).mkdir()
    assert f"val has the class '{name}', which train lacks" in refusal("classifier.py")


def test_folders_of_equal_numbers_but_other_names(photos):
    (photos / "val" / "dog").rename(photos / "val" / "ant")
    message = refusal("classifier.py")
    assert "val lacks the class 'dog'" in message and "has the class 'ant'" in message


def test_names_in_another_order_than_the_folders(photos):
    names = dict(classes=("dog", "cat", "owl"))
    message = refusal("classifier.py", train_dataloader__dataset__metainfo=names)
    assert "have 'cat' as class 0, instead of 'dog'" in message and "classes=('cat', 'dog', 'owl')" in message
    titles = dict(classes=("A cat", "A dog", "An owl"))
    options = {f"{split}_dataloader.dataset.metainfo": titles for split in ("train", "val")}
    build_trainer(load_config("classifier.py", "work", options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model__head__num_classes=4), "model.head.num_classes=4: train_dataloader.dataset has 3 classes, 'cat'"),
        (dict(model__head__num_classes=2), "Set model.head.num_classes=3"),
        (dict(model__data_preprocessor__num_classes=5), "model.data_preprocessor.num_classes=5"),
        (
            dict(val_evaluator=dict(type="ConfusionMatrix", num_classes=7, _delete_=True)),
            "val_evaluator (ConfusionMatrix): num_classes=7",
        ),
    ],
)
def test_heads_and_metrics_with_another_number(photos, options, message):
    assert message in refusal("classifier.py", **options)


def listed(photos, lines, val="cat/0.png 0\n"):
    (photos / "train.txt").write_text(lines)
    (photos / "val.txt").write_text(val)
    return {
        f"{split}_dataloader__dataset__{key}": value
        for split in ("train", "val")
        for key, value in dict(ann_file=f"{split}.txt", data_prefix=split).items()
    }


@pytest.mark.parametrize("label", [3, 99, -2])
def test_labels_of_a_list_that_are_no_class(photos, label):
    options = listed(photos, f"cat/0.png 0\ndog/1.png {label}\n")
    message = refusal("classifier.py", **options)
    assert f"dog/1.png of train.txt has the label {label}" in message and "classes 0 to 2" in message
    options = listed(photos, "cat/0.png 0\n", val=f"dog/0.png {label}\n")
    assert f"val_dataloader.dataset: val/dog/0.png of val.txt has the label {label}" in refusal(
        "classifier.py", **options
    )


def test_classes_without_a_sample_are_named_in_the_log(photos):
    options = listed(photos, "cat/0.png 0\nowl/1.png 2\n")
    build_trainer(load_config("classifier.py", "work", {k.replace("__", "."): v for k, v in options.items()}))
    (log,) = Path("work").glob("*/*.log")
    assert "train_dataloader.dataset: classes without a sample: 'class 1'." in log.read_text()


def test_a_checkpoint_of_other_classes_is_not_tested(photos):
    runner = build_trainer(load_config("classifier.py", "work", {}))
    state = runner.model.state_dict()
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=("cat", "dog", "ox")))), "other.pth")
    message = refusal("classifier.py", build_tester, load_from="other.pth")
    assert "lack 'ox' and have 'owl' in addition, compared with other.pth" in message
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=("cat", "dog", "owl")))), "same.pth")
    build_tester(load_config("classifier.py", "work", {"load_from": "same.pth"}))


def test_knn_of_folders_that_differ(photos):
    from maskfeat_plugin.apis.knn_evaluation import evaluate_knn

    remove(photos / "val" / "cat")
    with pytest.raises(ConfigError, match="val lacks the class 'cat'"):
        evaluate_knn(load_config("classifier.py"), "no.pth")


@pytest.fixture
def boxes(digits, tmp_path, monkeypatch):
    """Prepare MovingDigits' boxes in the demo's config; ``rewrite(split, names)`` renames a split's categories."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(digits / "data")
    notes = digits / "data" / "moving_digits" / "annotations"
    files = dict(train="detection_train_1000_seed0.json", val="detection_val.json")

    def rewrite(split, change):
        content = json.loads((notes / files[split]).read_text())
        content["categories"] = change(content["categories"])
        path = tmp_path / f"{split}.json"
        path.write_text(json.dumps(content))
        return {f"{split}_dataloader__dataset__ann_file": str(path)}

    return rewrite


COCO = DEMO / "vit-tiny_moving-digits-coco.py"


def renamed(number, name):
    return lambda found: [dict(item, name=name) if i == number else item for i, item in enumerate(found)]


def test_categories_as_they_should_be(boxes):
    build_trainer(load_config(COCO, "work", {}))


@pytest.mark.parametrize("split", ["train", "val"])
def test_categories_of_other_names(boxes, split):
    message = refusal(COCO, **boxes(split, renamed(3, "tree")))
    assert f"{split}_dataloader.dataset.metainfo.classes" in message
    assert "has no category" in message and "tree" in message


def test_names_of_coco_for_data_of_ones_own(boxes):
    message = refusal(COCO, train_dataloader__dataset__metainfo=None)
    assert "train_dataloader.dataset (CocoDataset)" in message and "has no category 'person', 'bicycle'" in message


def test_categories_in_another_order(boxes):
    message = refusal(COCO, **boxes("val", lambda found: found[::-1]))
    assert "class 0 is" in message and "in the order of" in message and "Set classes=" in message


def test_one_name_that_is_no_list(boxes):
    message = refusal(COCO, train_dataloader__dataset__metainfo=dict(classes="digit"))
    assert "has to be a list of names; set classes=('digit',)" in message


def test_a_detector_with_another_number_of_classes(boxes):
    message = refusal(COCO, model__roi_head__bbox_head__num_classes=80)
    assert "model.roi_head.bbox_head.num_classes=80: train_dataloader.dataset has 10 classes" in message


def test_boxes_of_no_class(boxes):
    def empty(content):
        return [*content]

    options = boxes("train", empty)
    path = Path(options["train_dataloader__dataset__ann_file"])
    content = json.loads(path.read_text())
    path.write_text(json.dumps(dict(content, annotations=[])))
    assert "no sample has a label or a box of the 10 classes" in refusal(COCO, **options)


def test_categories_are_found_anywhere_in_a_file(tmp_path):
    file = tmp_path / "a.json"
    names = ["Größe", 'a "b" \\ c', "日本"]
    categories = [dict(id=i, name=name) for i, name in enumerate(names)]
    decoy = dict(info=dict(categories="none", note='"categories": [1'))
    for content in (dict(decoy, categories=categories), dict(categories=categories, **decoy)):
        for ascii_ in (True, False):
            file.write_text(json.dumps(content, ensure_ascii=ascii_), encoding="utf-8")
            assert read_categories(file) == names
    for wrong in ("", "[]", '{"categories": [', "\0\xff"):
        file.write_text(wrong)
        with pytest.raises(ValueError, match="a.json"):
            read_categories(file)


VIDEOS = DEMO / "mvit-tiny_moving-digits-motion.py"
AVA = DEMO / "mvit-tiny_moving-digits-ava.py"


@pytest.fixture
def clips(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(digits / "data")


@pytest.mark.parametrize("label", [8, 99, None])
def test_labels_of_videos_that_are_no_class(clips, tmp_path, label):
    lines = Path("data/moving_digits/annotations/motion_val.txt").read_text().splitlines()
    names = [line.split()[0] for line in lines]
    (tmp_path / "val.txt").write_text("".join(f"{n} {label}\n" if label else f"{n}\n" for n in names))
    message = refusal(VIDEOS, val_dataloader__dataset__ann_file="val.txt")
    assert "val_dataloader.dataset: " in message and names[0] in message and "classes 0 to 7" in message
    assert ("has no label" if label is None else f"has the label {label}") in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model__cls_head__num_classes=6), "model has the classes 0 to 5"),
        (
            dict(train_dataloader__dataset__num_classes=9, train_dataloader__dataset__multi_class=True),
            "model.cls_head.num_classes=8: train_dataloader.dataset has num_classes=9",
        ),
    ],
)
def test_numbers_of_classes_of_videos(clips, options, message):
    assert message in refusal(VIDEOS, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(model__roi_head__bbox_head__num_classes=81), "model.roi_head.bbox_head.num_classes=81: "),
        (dict(val_evaluator__num_classes=81), "val_evaluator (AVAMetric): num_classes=81"),
        (dict(val_evaluator__ann_file="data/moving_digits/annotations/ava_train.csv"), "Set both to the same file"),
    ],
)
def test_numbers_of_actions(clips, options, message):
    assert message in refusal(AVA, **options)


def test_a_label_map_with_more_actions(clips, tmp_path):
    text = Path("data/moving_digits/annotations/ava_action_list.pbtxt").read_text()
    (tmp_path / "more.pbtxt").write_text(text + 'item {\n  name: "sing"\n  id: 40\n}\n')
    message = refusal(AVA, train_dataloader__dataset__label_file="more.pbtxt")
    assert "more.pbtxt has the action 40" in message and "Set num_classes=41" in message

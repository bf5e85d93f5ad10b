"""Tests of the comparison of two configs' steps: inputs and masks are the same. Times are not asserted."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from maskfeat_plugin.config.training_inputs import input_size, mask_generator
from maskfeat_plugin.errors import ConfigError
from projects.benchmark import compare_steps, measure

CONFIGS = Path(__file__).parents[2] / "configs"
CPU = torch.device("cpu")
PAIRS = dict(
    image=("efficient/maskfeat-visible_vit-tiny_moving-digits.py", "demo/maskfeat_vit-tiny_moving-digits.py"),
    video=("efficient/maskfeat-visible_mvit-tiny_moving-digits.py", "demo/maskfeat_mvit-tiny_moving-digits.py"),
)


def pair(kind):
    return [Config.fromfile(CONFIGS / path) for path in PAIRS[kind]]


@pytest.mark.parametrize("kind", PAIRS)
def test_both_train_on_the_same_samples(kind):
    comparison = compare_steps(*pair(kind), 0.75, 2, CPU)
    ours, theirs = comparison.ours(), comparison.theirs()
    assert ours["baseline"] == theirs["baseline"] > 0  # same targets at the same tokens
    assert comparison.ours()["loss"] != ours["loss"]  # a step was taken
    found = measure(comparison, 1, CPU)
    assert found.ours > 0 and found.theirs > 0
    assert "75% masked" in comparison.job and comparison.peer == f"maskfeat_{'vit' if kind == 'image' else 'mvit'}-tiny"


def test_the_ratio_is_the_one_given():
    baselines = [compare_steps(*pair("image"), ratio, 2, CPU).ours()["baseline"] for ratio in (0.4, 0.75)]
    assert baselines[0] != baselines[1]


def test_inputs_of_two_sizes():
    paths = ("efficient/maskfeat-24px_vit-tiny_moving-digits.py", "demo/maskfeat_vit-tiny_moving-digits.py")
    comparison = compare_steps(*(Config.fromfile(CONFIGS / path) for path in paths), 0.4, 2, CPU)
    assert "2 x 24 x 24" in comparison.job and comparison.peer == "maskfeat_vit-tiny"
    assert comparison.ours()["loss"] > 0 and comparison.theirs()["loss"] > 0


def test_configs_that_do_not_compare_are_errors():
    image, video = pair("image")[0], pair("video")[0]
    assert (input_size(image), input_size(video)) == ((40, 40), (8, 32, 32))
    with pytest.raises(ConfigError, match="two configs of images or two of clips"):
        compare_steps(image, video, 0.4, 1, CPU)
    image.train_dataloader.dataset.pipeline = [dict(type="LoadImageFromFile")]
    with pytest.raises(ConfigError, match=r"train_dataloader\.dataset\.pipeline"):
        mask_generator(image)
    image.model.backbone.pop("img_size")
    with pytest.raises(ConfigError, match=r"model\.backbone\.img_size"):
        input_size(image)

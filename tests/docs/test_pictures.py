"""Tests that run the drawing commands of docs/visualization.md, with random weights for fine-tuned models."""

import shlex

import cv2
import numpy as np
import torch
from doc_blocks import ROOT, code_blocks, commands, link_checkout
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tool_modules import load_tool

from maskfeat_plugin.registry import MODELS

PAGE = ROOT / "docs" / "visualization.md"
FINE_TUNED = {"class": "vit-tiny_moving-digits-class", "coco": "vit-tiny_moving-digits-coco"}
FINE_TUNED |= {"ava": "mvit-tiny_moving-digits-ava"}


def test_pictures_from_the_command_line(digits, tmp_path, monkeypatch):
    project = link_checkout(tmp_path / "project")
    (project / "data").symlink_to(digits / "data")
    monkeypatch.chdir(project)
    cv2.imwrite("some.jpg", np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8))
    given = [command for block in code_blocks(PAGE) for command in commands(block) if "tools/visualize.py" in command]
    assert len(given) == 6
    tool = load_tool("visualize", project / "tools")
    done = set()
    for command in given:
        _, _, *arguments = shlex.split(command)
        for name, config in FINE_TUNED.items():
            if arguments[1].startswith(f"work_dirs/{name}/"):
                save_weights(config, project / arguments[1])
        if "--indices" in arguments:  # the page's data has more samples
            arguments[arguments.index("14")] = "5"
        assert tool.main(arguments) == 0, command
        folder = project / arguments[arguments.index("--out") + 1]
        done |= {f"{folder.name}/*{path.suffix}" for path in folder.glob("*.*")}
    assert done == {"out/*.png", "clips/*.png", "clips/*.gif", "classes/*.png", "boxes/*.png", "neighbours/*.png"} | {
        "actions/*.png",
        "actions/*.mp4",
    }


def save_weights(config, path):
    """Save the initial weights of a fine-tuning config's model."""
    cfg = Config.fromfile(ROOT / "configs" / "demo" / f"{config}.py")
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
    path.parent.mkdir(parents=True)
    torch.save(dict(state_dict=model.state_dict()), path)

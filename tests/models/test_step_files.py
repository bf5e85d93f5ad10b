"""The number of files that a reader of one pre-training step has to open."""

import sys
from pathlib import Path

import torch
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

import maskfeat_plugin
from maskfeat_plugin.registry import MODELS

PACKAGE = Path(maskfeat_plugin.__file__).parent
CONFIG = PACKAGE.parent / "configs" / "demo" / "maskfeat_mvit-tiny_moving-digits.py"


def test_a_step_runs_through_few_files_beside_the_arithmetic():
    cfg = Config.fromfile(CONFIG)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    clip = model.backbone.patch_embed.init_out_size
    stride = model.backbone.token_stride
    mask = torch.zeros(clip, dtype=torch.bool)
    mask[:, : clip[1] // 2] = True
    size = [n * s for n, s in zip(clip, stride, strict=True)]
    data = dict(
        inputs=[torch.randint(256, (1, 3, *size), dtype=torch.uint8) for _ in range(2)],
        data_samples=[ActionDataSample() for _ in range(2)],
    )
    for sample in data["data_samples"]:
        sample.set_field(mask, "mask")
    files = set()

    def note(frame, event, arg):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.add(path.relative_to(PACKAGE))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        losses = model.train_step(data, optimizer)
    finally:
        sys.setprofile(before)
    assert losses["loss"].isfinite()
    method = sorted(str(path) for path in files if path.parts[0] != "ops")
    assert len(files) - len(method) >= 7, files
    assert len(method) <= 14, method

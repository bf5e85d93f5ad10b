"""From files to features: content of a box in the frames appears in the features of that box."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.registry import DATASETS, MODELS

CONFIG = Path(__file__).parents[2] / "configs/action_detection/mvit-small-16x4_k400-pre_8xb16-amp-coslr-30e_ava22.py"
FPS = 30
HEIGHT, WIDTH = 240, 400
# side in pixels; small, and far enough from the border
BOXES = np.array([[160, 95, 205, 140], [215, 110, 260, 150], [120, 80, 150, 120]])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Write a video for each box: grey frames with a white box."""
    root = tmp_path_factory.mktemp("planted")
    rows = []
    for number, (x1, y1, x2, y2) in enumerate(BOXES):
        frame = np.full((HEIGHT, WIDTH, 3), 110, np.uint8)
        frame[y1:y2, x1:x2] = 255
        folder = root / f"video{number}"
        folder.mkdir()
        for index in range(2 * FPS):
            cv2.imwrite(str(folder / f"img_{index + 1:05d}.jpg"), frame)
        rows.append(f"video{number},0901,{x1 / WIDTH},{y1 / HEIGHT},{x2 / WIDTH},{y2 / HEIGHT},1,0\n")
    (root / "annotations.csv").write_text("".join(rows))
    return root


@pytest.fixture(scope="module")
def backbone():
    """Build the config's MViT without mixing: attention and MLP add nothing, so tokens are only pooled patches."""
    cfg = Config.fromfile(CONFIG).model.backbone
    cfg.pop("init_cfg")
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    with torch.no_grad():
        model.patch_embed.projection.weight.fill_(1e-3)
        model.patch_embed.projection.bias.zero_()
        for block in model.blocks:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.zero_()
                layer.bias.zero_()
            if block.proj is not None:
                block.proj.weight.copy_(torch.eye(*block.proj.weight.shape))
                block.proj.bias.zero_()
    # all channels are equal, so a norm over them would give zeros
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.LayerNorm):
                setattr(module, name, torch.nn.Identity())
    return model


def offsets(root, backbone, loader, seeds, flip_ratio):
    """Measure the distance in pixels (x, y) from the centres of the planted boxes to the highest features."""
    cfg = Config.fromfile(CONFIG)
    pipeline = cfg[loader].dataset.pipeline
    pipeline[0].clip_len = 2
    for transform in pipeline:
        if transform.type == "Flip":
            transform.flip_ratio = flip_ratio
    roi = {**cfg.model.roi_head.bbox_roi_extractor, "output_size": 1}
    found = []
    with DefaultScope.overwrite_default_scope("mmaction"):
        dataset = DATASETS.build(
            dict(
                type="maskfeat.AVADataset",
                ann_file=str(root / "annotations.csv"),
                data_prefix=dict(img=str(root)),
                pipeline=pipeline,
                test_mode=loader != "train_dataloader",
            )
        )
        preprocessor = MODELS.build(cfg.model.data_preprocessor)
        extractor = MODELS.build(roi)
        for seed in seeds:
            np.random.seed(seed)
            sample = dataset[seed % len(BOXES)]
            height, width = sample["inputs"].shape[-2:]
            box = sample["data_samples"].gt_instances.bboxes[0]
            centre = (box[:2] + box[2:]) / 2
            if (centre < 80).any() or centre[0] > width - 80 or centre[1] > height - 80:
                continue  # cut by the crop, or too near to the border to see both sides
            batch = preprocessor(dict(inputs=[sample["inputs"]], data_samples=[sample["data_samples"]]))
            with torch.no_grad():
                features = backbone(batch["inputs"])
            found.append([peak(extractor, features, centre, axis) for axis in (0, 1)])
    return np.array(found)


def peak(extractor, features, centre, axis):
    """Return the middle of the range along an axis where features of small boxes exceed half of their maximum."""
    shifts = torch.arange(-80.0, 81.0, 2.0)
    places = centre.repeat(len(shifts), 1)
    places[:, axis] += shifts
    rois = torch.cat([torch.zeros(len(shifts), 1), places - 4, places + 4], dim=1)
    response = extractor(features, rois)[0][:, 0].flatten()
    response = response - response.min()
    above = shifts[response > 0.5 * response.max()]
    assert response.max() > 0.1  # white stands out
    return (above.min() + above.max()).item() / 2


@pytest.mark.parametrize(
    "loader, flip_ratio", [("train_dataloader", 0), ("train_dataloader", 1), ("val_dataloader", 0)]
)
def test_planted_box(loader, flip_ratio, root, backbone):
    """The mean distance is below a quarter of a token, in square crops, flipped or not, and in non-square frames."""
    found = offsets(root, backbone, loader, range(36 if loader == "train_dataloader" else 3), flip_ratio)
    assert len(found) >= 3
    assert np.abs(found.mean(0)).max() < 8
    assert np.abs(found).max() < 24


def test_planted_box_is_missed_by_a_box_elsewhere(root, backbone):
    """The features of the box are high; the features of a box beside it and of the mirrored box are low."""
    frame = torch.full((1, 3, 2, 224, 384), -0.1)
    frame[..., 64:160, 64:160] = 2.0
    extractor = MODELS.build(Config.fromfile(CONFIG).model.roi_head.bbox_roi_extractor)
    rois = torch.tensor([[0.0, 64, 64, 160, 160], [0, 256, 64, 352, 160], [0, 224, 64, 320, 160]])
    with torch.no_grad():
        inside, beside, mirrored = extractor(backbone(frame), rois)[0][:, 0].flatten(1)
    assert inside.mean() > 10 * max(beside.abs().mean(), mirrored.abs().mean())

"""All fine-tuning configs can be evaluated: test pipeline, views, model and metric give a number on real files.

Depth and width are full-size; frames and pixels are fewer. Configs on Kinetics-600 and -700 differ from the configs on
Kinetics-400 only in the number of classes (see test_recipe_pipelines.py), so one of them is tested for all.
"""

import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner, set_random_seed

import maskfeat_plugin  # noqa: F401
from maskfeat_cli.named_configs import named_configs

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = ("classification", "recognition", "action_detection", "detection", "segmentation")
PATHS = sorted(str(p.relative_to(CONFIGS)) for p in named_configs().values() if p.parent.name in FOLDERS)
CHOSEN = [path for path in PATHS if not re.search(r"_k[67]00", path) or "small-16x4" in path]
FRAMES = ("SampleFrames", "UniformSample", "SampleAVAFrames")
MEASURES = dict(
    classification=("accuracy/top1", "accuracy/top5"),
    recognition=("acc/top1", "acc/top5", "acc/mean1"),
    action_detection=("mAP/overall",),
    detection=("coco/bbox_mAP",),
    segmentation=("mIoU", "mAcc", "aAcc"),
)


def shrink(pipeline):
    """Shrink clips to 4 frames and pictures to 96 pixels; the number of clips and crops stays."""
    views = 1
    for transform in pipeline:
        kind = transform.type.rpartition(".")[2]
        if kind in FRAMES:
            transform.clip_len = 4
            views *= transform.get("num_clips", 1)
        elif kind == "DecodeClip":
            transform.short_side = 96
        elif kind == "Resize":
            transform.scale = (128, 96) if transform.scale[0] > 0 else (-1, 96)
        elif kind in ("CenterCrop", "ThreeCrop") and "ResizeEdge" not in [t.type for t in pipeline]:
            transform.crop_size = 96
            views *= 3 if kind == "ThreeCrop" else 1
    return views


def point_metric(cfg):
    """Let the metric read the same annotations as the data set."""
    dataset, metric = cfg.test_dataloader.dataset, cfg.test_evaluator
    if "ann_file" in metric:
        root = dataset.get("data_root")
        metric.ann_file = str(Path(root, dataset.ann_file)) if root else dataset.ann_file
    for key in ("exclude_file", "label_file"):
        if key in metric:
            metric[key] = dataset[key]


LARGE = re.compile("mvit-large-3|mask-rcnn_vit-large")  # a minute in total; smaller models have the same tests


@pytest.mark.parametrize("path", [pytest.param(p, marks=pytest.mark.long) if LARGE.search(p) else p for p in CHOSEN])
def test_evaluation(path, use_data):
    cfg = Config.fromfile(CONFIGS / path)
    loader = cfg.test_dataloader
    use_data(loader.dataset)
    point_metric(cfg)
    views = shrink(loader.dataset.pipeline)
    loader.update(batch_size=1, num_workers=0, persistent_workers=False, pin_memory=False)
    cfg.model.backbone.pop("init_cfg")
    if path.startswith("detection"):
        # an untrained detector has low scores, so all of its few boxes count
        cfg.model.test_cfg.rpn.max_per_img = 20
        cfg.model.test_cfg.rcnn.score_thr = 0.0
    if path.startswith("segmentation"):  # pictures of 128 x 96, in three windows
        cfg.model.data_preprocessor.size = None
        cfg.model.test_cfg.update(crop_size=(96, 96), stride=(64, 16))
    set_random_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        built = Runner.build_dataloader(loader, seed=0)
        batches = list(built)
        model = MODELS.build(cfg.model)
        evaluator = Evaluator(cfg.test_evaluator)
    if path.startswith("recognition"):
        assert batches[0]["inputs"][0].shape[0] == views
    model.eval()
    evaluator.dataset_meta = built.dataset.metainfo
    with torch.no_grad():
        for batch in batches:
            evaluator.process(data_samples=model.test_step(batch), data_batch=batch)
    measured = evaluator.evaluate(len(batches))
    for name in MEASURES[path.split("/")[0]] + (("coco/segm_mAP",) if "mask-rcnn" in path else ()):
        assert name in measured and math.isfinite(measured[name])

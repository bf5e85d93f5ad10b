"""All configs can take a training step: with their data pipeline, preprocessor, model and optimizer on real files."""

import math
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from compared import backbones_of_timm
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner, set_random_seed
from torch.overrides import TorchFunctionMode

import maskfeat_plugin  # noqa: F401
from maskfeat_cli.named_configs import named_configs

CONFIGS = Path(__file__).parents[2] / "configs"
PATHS = sorted(str(p.relative_to(CONFIGS)) for p in named_configs().values())


# Models of full size that other configs train too: make test only builds them, make test-slow runs the step
REPEATED = re.compile(
    r"scaling/.*large|detection/.*vit-large|pretrain/maskfeat_vit-large|_k[67]00|large-16x4.*(_k400|_ava22)|large.*sthv2|"
    r"maskfeat-(clip|siglip)_|(sounds|volumes)-pre|maskfeat-128px-pre|contrast/.*vit-base"
)


def mark(path):
    return pytest.param(path, marks=pytest.mark.long) if REPEATED.search(path) else path


SHRUNK = dict(SampleFrames=dict(clip_len=4), UniformSample=dict(clip_len=4), SampleAVAFrames=dict(clip_len=4))


def shorten_clips(pipeline):
    """Use 4 frames instead of 16 to 40: an MViT-L of full depth then takes a step in 5 GB instead of 13 and more."""
    for transform in pipeline:
        transform.update(SHRUNK.get(transform.type.rpartition(".")[2], {}))
        if "token_grid" in transform:
            transform.token_grid, transform.window_size = (2, 14, 14), (2, 7, 7)


def shrink_frames(pipeline, size=96):
    """Use frames of 96 pixels for the sizes of 312 and 352, whose token grids also end in odd numbers."""
    for transform in pipeline:
        kind = transform.type.rpartition(".")[2]
        if kind == "DecodeClip":
            transform.short_side = size + 8
        elif kind == "Resize" and not transform.get("keep_ratio", True):
            transform.scale = (size, size)
        elif kind == "RandomRescale":
            transform.scale_range = (size, size + 8)
        elif kind == "RandomCrop":
            transform.size = size


def shrink_images(pipeline, size=(128, 160)):
    """Use images of 128 x 160 for detection, which are not square; their boxes shrink with them."""
    for transform in pipeline:
        if transform.type in ("RandomResize", "Pad"):
            transform["scale" if transform.type == "RandomResize" else "size"] = size[::-1]
        elif transform.type == "RandomCrop":
            transform.crop_size = size
        if transform.type == "RandomResize":
            transform.ratio_range = (0.9, 1.1)


def shrink_masks(cfg, size=(128, 128)):
    """Use crops of 128 x 128 for segmentation; the model pads to the size of the crops."""
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform.type == "RandomResize":
            transform.update(scale=size, ratio_range=(1.0, 1.2))
        elif transform.type == "RandomCrop":
            transform.crop_size = size
    cfg.model.data_preprocessor.size = size


def without_weights(node):
    """Use random weights for the networks of a target generator, because the files in the configs do not exist here."""
    if isinstance(node, dict):
        node.pop("init_cfg", None)
        for child in node.values():
            without_weights(child)


def timm_of(cfg):
    """Return a context in which mmpretrain finds timm, if a config needs it."""
    return backbones_of_timm() if "TIMMBackbone" in cfg.pretty_text else nullcontext()


@pytest.mark.parametrize("path", [mark(p) for p in PATHS])
def test_training_step(path, use_data):
    cfg = Config.fromfile(CONFIGS / path)
    use_data(cfg.train_dataloader.dataset)
    without_weights(cfg.model.get("target_generator"))
    if re.search(r"mvit-large|maskfeat-.*_mvit-small|recognition/mvit-small", path):
        shorten_clips(cfg.train_dataloader.dataset.pipeline)
    if re.search(r"-3[15]2-|_k[67]00|large.*_ava22", path):
        shrink_frames(cfg.train_dataloader.dataset.pipeline)
    if path.startswith("detection"):
        shrink_images(cfg.train_dataloader.dataset.pipeline)
    if path.startswith("segmentation"):
        shrink_masks(cfg)
    batch_size = 2 if re.search("linear|segmentation|-seg|contrast", path) else 1  # batch norm needs two
    cfg.train_dataloader.update(batch_size=batch_size, num_workers=0, persistent_workers=False, pin_memory=False)
    cfg.optim_wrapper.type = "OptimWrapper"  # mixed precision needs a GPU
    if "drop_path_rate" in cfg.model.get("backbone", {}):
        cfg.model.backbone.drop_path_rate = 0.0  # if dropped in a batch of one, a block would get no gradient
    cfg.optim_wrapper.optimizer.lr = 10.0  # layer decay leaves steps for the first layers that float32 cannot resolve
    set_random_seed(0)
    with timm_of(cfg), DefaultScope.overwrite_default_scope(cfg.default_scope):
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
        model = MODELS.build(cfg.model)
        optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        before = {
            name: p.detach().clone() for name, p in model.named_parameters() if p.numel() < 10_000 and p.requires_grad
        }
        losses = model.train_step(batch, optim_wrapper)
    loss = losses["loss"].item()
    assert math.isfinite(loss) and loss > 0
    moved = [name for name, p in model.named_parameters() if name in before and not torch.equal(p, before[name])]
    # an image has no use for positions in time, a detection head without positives trains only some of its layers, and
    # a tokenizer or teacher is not trained
    still = ["target_generator."] + ["rel_pos_t"] * path.startswith(("detection", "segmentation"))
    expected = [name for name in before if not any(part in name for part in still)]
    assert len(moved) > 0.85 * len(expected)


class WithoutValues(TorchFunctionMode):
    """Create weights on the "meta" device, where a large model is built in a moment."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **((kwargs or {}) | (dict(device="meta") if function is torch.empty else {})))


@pytest.mark.parametrize("path", [path for path in PATHS if "-tiny" not in path])
def test_model_builds(path):
    cfg = Config.fromfile(CONFIGS / path)
    without_weights(cfg.model.get("target_generator"))
    with timm_of(cfg), DefaultScope.overwrite_default_scope(cfg.default_scope):
        with WithoutValues():
            model = MODELS.build(cfg.model)
        groups = build_optim_wrapper(model, dict(cfg.optim_wrapper, type="OptimWrapper")).optimizer.param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert sum(p.numel() for p in model.backbone.parameters()) > 30_000_000

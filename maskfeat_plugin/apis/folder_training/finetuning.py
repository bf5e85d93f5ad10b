"""Config of a classifier that is fine-tuned on a folder, starting from a pre-training run."""

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict

from maskfeat_plugin.config.input_kinds import IMAGES, VIDEOS, input_kind
from maskfeat_plugin.config.input_pipeline import title_of, training_pipeline, without_randomness
from maskfeat_plugin.datasets.manifest import IMAGE, VIDEO
from maskfeat_plugin.errors import ConfigError

from ..model_loading import read_model
from .folder_contents import LabelledFiles
from .pretraining import Settings, read_bases, set_dataloader, without_flips
from .training_length import set_length

# Backbones of pre-training -> the same backbones for fine-tuning
_PLAIN = dict(
    MaskedViT="maskfeat.VisionTransformer",
    VisibleViT="maskfeat.VisionTransformer",
    MaskedMViT="maskfeat.MViT",
    VisibleMViT="maskfeat.MViT",
)
# The pre-training variants do not reduce the resolution in the last stage. Fine-tuning uses the usual variants, as in
# the paper.
_ARCHITECTURES = {"maskfeat-small": "small", "maskfeat-large": "large"}
_TOP1 = dict(top_k_accuracy=dict(topk=(1,)))  # metric_options of AccMetric; its default also includes the top 5
_BATCH_SIZE = {IMAGE: 16, VIDEO: 4}
# Kind of the files -> transform that packs a sample for training without masks
_PACK = {IMAGE: dict(type="PackInputs"), VIDEO: dict(type="PackActionInputs")}


def finetuning_config(labelled: LabelledFiles, run: str | Path, settings: Settings) -> Config:
    """Build the config of a classifier with the encoder of a pre-training.

    The classifier of images is a ViT, or an MViT that was pre-trained on videos. The classifier of videos is an MViT.
    The samples are cropped and resized as in the pre-training.

    Args:
        labelled (LabelledFiles): The files. Lists of them are written to the work directory.
        run (str | Path): Work directory of a pre-training, or a name of :func:`.list_models` that has weights.
        settings (Settings): Choices of the user.

    Returns:
        Config: The config, with a training of one step; :func:`.set_length` sets another length.

    Raises:
        ConfigError: If the run is not a pre-training of a known backbone, has no checkpoint, or does not fit the files.
    """
    pretrained, weights = read_model(run)
    backbone = pretrained.model.get("backbone") or {}
    kind = str(backbone.get("type", "")).rpartition(".")[2]
    if kind not in _PLAIN or "target_generator" not in pretrained.model:
        raise ConfigError(
            f"--from {run}: its model is not a MaskFeat with one of the backbones {', '.join(_PLAIN)}. Write a config "
            "for it, as in docs/tutorials/finetune.md."
        )
    inputs = input_kind(training_pipeline(pretrained), title_of(pretrained))
    if inputs not in (IMAGES, VIDEOS):
        raise ConfigError(
            f"--from {run}: it was pre-trained on {inputs.plural}, and {labelled.contents.folder} has "
            f"{labelled.contents.kind}s. Write a config for {inputs.plural}, as in docs/signals.md."
        )
    if weights is None:
        raise ConfigError(
            f"--from {run}: there is no checkpoint. Train it to its first checkpoint, or give another run."
        )
    is_clip = labelled.contents.kind == VIDEO
    reads_clips = inputs.is_clip
    if is_clip and not reads_clips:
        raise ConfigError(
            f"--from {run}: it was pre-trained on images, and {labelled.contents.folder} has videos. Give a run that "
            "was pre-trained on videos, or a folder of images."
        )
    model_base = "models/mvit-small.py" if is_clip else "models/vit-base-p16.py"
    cfg = read_bases((model_base, "schedules/folder_finetune.py", "default_runtime.py"), settings)
    plain = _plain_backbone(backbone, kind, str(weights))
    channels = pretrained.model.neck.in_channels
    mean, std = (_three(pretrained.model.data_preprocessor[key]) for key in ("mean", "std"))
    cfg.model.data_preprocessor.update(mean=mean, std=std)
    if is_clip:
        cfg.default_scope = "mmaction"
        cfg.model.data_preprocessor.pop("blending")
        cfg.model.backbone = ConfigDict(plain, out_type="avg_featmap")
        cfg.model.cls_head.update(in_channels=channels, num_classes=len(labelled.names))
        cfg.val_evaluator = dict(type="AccMetric", metric_list=("top_k_accuracy",), metric_options=_TOP1)
    else:
        cfg.default_scope = "mmpretrain"
        cfg.model.pop("train_cfg")  # mixing of labels needs more data than users usually label
        cfg.model.data_preprocessor.num_classes = len(labelled.names)
        if reads_clips:
            cfg.model.backbone = _image_mvit(plain)
            cfg.model.neck = dict(type="GlobalAveragePooling")
        else:
            cfg.model.backbone = ConfigDict(plain, out_type="avg_featmap", final_norm=False)
        cfg.model.head.update(in_channels=channels, num_classes=len(labelled.names))
        cfg.val_evaluator = dict(type="Accuracy", topk=1)
    _set_data(cfg, labelled, _pipeline(pretrained, is_clip, reads_clips), settings)
    cfg.optim_wrapper.optimizer.lr = settings.lr or cfg.optim_wrapper.optimizer.lr
    cfg.default_hooks.checkpoint.save_best = "auto"
    set_length(cfg, 1)
    return cfg


def _plain_backbone(backbone: dict, kind: str, weights: str) -> dict[str, Any]:
    plain = {key: value for key, value in backbone.items() if key not in ("type", "init_cfg", "arch")}
    arch = backbone.get("arch", "maskfeat-small" if "MViT" in kind else "base")
    plain.update(
        type=_PLAIN[kind],
        arch=_ARCHITECTURES.get(arch, arch) if isinstance(arch, str) else arch,
        drop_path_rate=0.1,
        init_cfg=dict(type="maskfeat.Pretrained", checkpoint=weights),
    )
    return plain


def _image_mvit(plain: dict[str, Any]) -> ConfigDict:
    arch = plain["arch"]
    stages = 4 if isinstance(arch, str) else len(arch["downscale_indices"]) + 1
    return ConfigDict(plain, type="maskfeat.ImageMViT", out_scales=(stages - 1,))


def _pipeline(pretrained: Config, is_clip: bool, reads_clips: bool) -> list[dict]:
    """Return the training pipeline of the labelled files: the pipeline of the pre-training without masks."""
    steps = [
        step
        for step in training_pipeline(pretrained)
        if not str(step["type"]).rpartition(".")[2].endswith(("MaskGenerator", "PackInputs", "PackActionInputs"))
    ]
    if reads_clips and not is_clip:
        size = pretrained.model.backbone.get("spatial_size", 224)
        crop = dict(type="maskfeat.MovingResizedCrop", scale=size, crop_ratio_range=(0.5, 1.0), backend="pillow")
        steps = [dict(type="maskfeat.LoadWholeImage"), crop, dict(type="RandomFlip", prob=0.5, direction="horizontal")]
    return [*steps, _PACK[VIDEO if is_clip else IMAGE]]


def _set_data(cfg: Config, labelled: LabelledFiles, pipeline: list[dict], settings: Settings) -> None:
    is_clip, folder = labelled.contents.kind == VIDEO, str(labelled.contents.folder)
    train_list, val_list = map(str, labelled.write_lists(settings.work_dir))
    data = dict(
        data_prefix=dict(video=folder) if is_clip else folder,
        metainfo=dict(classes=list(labelled.names)),
    )
    dataset_type = "maskfeat.VideoDataset" if is_clip else "maskfeat.ImageDataset"
    train_pipeline = pipeline if settings.flip else without_flips(pipeline)
    cfg.train_dataloader = dict(
        sampler=dict(type="DefaultSampler", shuffle=True),
        dataset=dict(
            type="maskfeat.SkipBadFiles",
            dataset_type=dataset_type,
            ann_file=train_list,
            pipeline=train_pipeline,
            **data,
        ),
    )
    if not is_clip:
        cfg.train_dataloader.collate_fn = dict(type="default_collate")
    set_dataloader(cfg, settings, _BATCH_SIZE[labelled.contents.kind])
    val_pipeline = without_randomness(pipeline, cfg.default_scope)
    cfg.val_dataloader = dict(cfg.train_dataloader.to_dict(), sampler=dict(type="DefaultSampler", shuffle=False))
    cfg.val_dataloader.dataset = dict(type=dataset_type, ann_file=val_list, pipeline=val_pipeline, **data)
    if is_clip:
        cfg.val_dataloader.dataset.test_mode = True
    cfg.test_dataloader = cfg.val_dataloader
    cfg.test_evaluator = cfg.val_evaluator
    cfg.val_cfg, cfg.test_cfg = dict(), dict()


def _three(value: Any) -> list[float]:
    """Return a list of three values, one for each channel; a single value is used three times."""
    values = np.atleast_1d(np.asarray(value, float)).tolist()
    return values * 3 if len(values) == 1 else values

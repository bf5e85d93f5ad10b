"""Config of a pre-training on a folder."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from mmengine.config import Config

from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.datasets.manifest import IMAGE, VIDEO
from maskfeat_plugin.errors import ConfigError

from .folder_contents import FolderContents
from .training_length import set_length


@dataclass(frozen=True)
class ModelChoice:
    """A model that ``maskfeat pretrain`` offers.

    Args:
        base (str): Name of its file in ``configs/_base_/models``, without ``.py``.
        changes (dict): Settings of ``model`` that differ from the file. Defaults to none.
        lr (float): Learning rate. Defaults to 2e-4.
        batch_size (int): Number of samples of a step. Defaults to 32.
    """

    base: str
    changes: Mapping = field(default_factory=dict)
    lr: float = 2e-4
    batch_size: int = 32


# Kind of the files -> name -> model; the first model is the default without a GPU, the second one with a GPU
MODELS_OF: dict[str, dict[str, ModelChoice]] = {
    IMAGE: {
        "vit-tiny": ModelChoice("maskfeat_vit-tiny-p16", lr=1e-3, batch_size=16),
        "vit-base": ModelChoice("maskfeat_vit-base-p16"),
        "vit-large": ModelChoice(
            "maskfeat_vit-base-p16", dict(backbone=dict(arch="large"), neck=dict(in_channels=1024))
        ),
    },
    VIDEO: {
        "mvit-tiny": ModelChoice("maskfeat_mvit-tiny", lr=1e-3, batch_size=4),
        "mvit-small": ModelChoice("maskfeat_mvit-small", batch_size=8),
        "mvit-large": ModelChoice(
            "maskfeat_mvit-small", dict(backbone=dict(arch="maskfeat-large"), neck=dict(in_channels=1152)), batch_size=8
        ),
    },
}


@dataclass(frozen=True)
class Settings:
    """Options of the command line that pre-training and fine-tuning share. None stands for the model's default.

    Args:
        work_dir (Path): Folder for the config, the log, the checkpoints and the pictures.
        model (str, optional): A name of :data:`MODELS_OF`.
        batch_size (int, optional): Number of samples of a step.
        lr (float, optional): Learning rate.
        num_workers (int): Processes that read files. Defaults to 2.
        seed (int): Seed of the training. Defaults to 0.
        flip (bool): Whether samples are mirrored at random. Defaults to True.
        amp (bool): Whether to train in mixed precision. Defaults to False.
        weights (str, optional): Checkpoint to start from, of any format that ``maskfeat.Pretrained`` reads. Defaults to
            None: random weights.
    """

    work_dir: Path
    model: str | None = None
    batch_size: int | None = None
    lr: float | None = None
    num_workers: int = 2
    seed: int = 0
    flip: bool = True
    amp: bool = False
    weights: str | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Settings":
        """Build the settings from the options of a command line that have the same names."""
        return cls(**{item.name: getattr(options, item.name) for item in fields(cls)})


def choose_model(kind: str, name: str | None = None) -> tuple[str, ModelChoice]:
    """Choose the model for images or videos.

    Args:
        kind (str): "image" or "video".
        name (str, optional): Name of the model. Defaults to None: the tiny model, or with a GPU the next larger one.

    Returns:
        tuple[str, ModelChoice]: Name and settings of the model.

    Raises:
        ConfigError: If there is no model of this name for this kind.
    """
    models = MODELS_OF[kind]
    if name is None:
        name = list(models)[int(torch.cuda.is_available())]
    if name not in models:
        raise ConfigError(f"--model {name}: for {kind}s choose one of {', '.join(models)}.")
    return name, models[name]


def pretraining_config(contents: FolderContents, settings: Settings) -> Config:
    """Build the config of a pre-training on a folder.

    It consists of the files in ``configs/_base_`` that the tutorials on own images and videos use.

    Args:
        contents (FolderContents): The files.
        settings (Settings): Choices of the user.

    Returns:
        Config: The config, with a training of one step; :func:`.set_length` sets another length.

    Raises:
        ConfigError: If there is no such model for these files.
    """
    _, choice = choose_model(contents.kind, settings.model)
    bases = (
        f"models/{choice.base}.py",
        f"datasets/folder_{contents.kind}s.py",
        "schedules/folder_pretrain.py",
        "default_runtime.py",
    )
    cfg = read_bases(bases, settings)
    cfg.merge_from_dict(dict(model=dict(choice.changes)))
    folder = str(contents.folder)
    if contents.kind == IMAGE:
        cfg.train_dataloader.dataset.data_root = folder
    else:
        cfg.train_dataloader.dataset.data_prefix = dict(video=folder)
    set_dataloader(cfg, settings, choice.batch_size)
    if not settings.flip:
        cfg.train_dataloader.dataset.pipeline = without_flips(cfg.train_dataloader.dataset.pipeline)
    if settings.weights is not None:
        cfg.model.init_cfg = dict(type="maskfeat.Pretrained", checkpoint=settings.weights)
    cfg.optim_wrapper.optimizer.lr = settings.lr or choice.lr
    cfg.visualizer.type = "maskfeat.MaskFeatVisualizer"
    shown = range(min(4, len(contents.files)))
    cfg.custom_hooks = [dict(type="maskfeat.MaskFeatVisualizationHook", indices=tuple(shown))]
    set_length(cfg, 1)
    return cfg


def read_bases(bases: tuple[str, ...], settings: Settings) -> Config:
    """Join files of ``configs/_base_`` to one config.

    Args:
        bases (tuple[str, ...]): Their paths below ``configs/_base_``.
        settings (Settings): Settings; the work directory, the seed and mixed precision are taken from them.

    Returns:
        Config: The config, named ``config.py``, without the variables that only its base files use.
    """
    paths = [str(configs_folder() / "_base_" / base) for base in bases]
    text = f"_base_ = {paths!r}\n"
    joined = Config.fromstring(text, ".py")
    content = {
        key: value for key, value in joined.items() if key not in ("train_pipeline", "test_pipeline", "sampling")
    }
    cfg = Config(content, text, str(settings.work_dir / "config.py"))
    cfg.work_dir = str(settings.work_dir)
    cfg.launcher = "none"
    cfg.randomness.seed = settings.seed
    if settings.amp:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
    return cfg


def set_dataloader(cfg: Config, settings: Settings, batch_size: int) -> None:
    """Set the batch size and the workers of the training data.

    Args:
        cfg (Config): The config; it is changed.
        settings (Settings): Choices of the user.
        batch_size (int): Number of samples of a step, unless the user chose another number.
    """
    loader = cfg.train_dataloader
    loader.batch_size = settings.batch_size or batch_size
    loader.num_workers = settings.num_workers
    loader.persistent_workers = settings.num_workers > 0
    loader.pin_memory = torch.cuda.is_available()


def without_flips(pipeline: list[dict]) -> list[dict]:
    """Return a pipeline that does not mirror samples.

    Args:
        pipeline (list[dict]): Configs of its transforms.

    Returns:
        list[dict]: The pipeline without ``RandomFlip`` and ``Flip``, and with ``flip_ratio=0`` in all transforms that
        have this setting.
    """
    kept = [step for step in pipeline if str(step["type"]).rpartition(".")[2] not in ("RandomFlip", "Flip")]
    return [dict(step, flip_ratio=0.0) if "flip_ratio" in step else step for step in kept]

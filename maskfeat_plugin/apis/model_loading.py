"""List of the plugin's configs by name, and functions that build a model from a config and load its weights."""

import copy
import fnmatch
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from torch import nn

from maskfeat_cli.folders import configs_folder
from maskfeat_cli.named_configs import describe_unknown, named_configs
from maskfeat_plugin.checkpoints import (
    CheckpointError,
    load_file,
    load_into,
    local_file,
    newest_whole,
    read_checkpoint,
)
from maskfeat_plugin.checkpoints.names import collapse
from maskfeat_plugin.config.load import find_config, load_config
from maskfeat_plugin.config.origins import named_errors
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.registry import MODELS


@dataclass(frozen=True)
class ListedModel:
    """One config of the plugin.

    Attributes:
        name: Name of the config file, without ``.py``.
        config: The file.
        tasks: Tasks of the model, as its metafile names them: "Self-Supervised Learning", "Image Classification", ...
            The inferencers of the frameworks use the same names. Empty for configs on the demo's data, which no
            metafile lists.
        metadata: Further entries of the metafile: "Architecture", "Batch Size", "Epochs" or "Iterations",
            "Training Data".
        weights: The weights that are shipped with the config, None if there are none.
    """

    name: str
    config: Path
    tasks: tuple[str, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)
    weights: Path | None = None


def list_models(pattern: str | None = None, task: str | None = None) -> list[str]:
    """Return the names of the plugin's configs.

    Args:
        pattern (str, optional): Beginning of the names; ``*`` stands for any characters, ``?`` for any single one.
            Defaults to None: all names.
        task (str, optional): A task of :class:`ListedModel`. Defaults to None: all tasks.

    Returns:
        list[str]: The names, sorted.
    """
    models = _listed_models()
    names = fnmatch.filter(models, f"{pattern}*") if pattern else list(models)
    return sorted(name for name in names if task is None or task in models[name].tasks)


def find_model(name: str) -> ListedModel:
    """Find a config of the plugin by its name.

    Args:
        name (str): A name of :func:`list_models`.

    Returns:
        ListedModel: The config with its metadata.

    Raises:
        ConfigError: If there is no config of that name. The message suggests the most similar names.
    """
    models = _listed_models()
    if name not in models:
        raise ConfigError(describe_unknown(name))
    return models[name]


def get_model(
    model: str | Path | Config,
    pretrained: str | Path | bool | None = False,
    device: str | torch.device | None = None,
    **kwargs: object,
) -> BaseModel:
    """Build a model, in evaluation mode.

    Args:
        model (str | Path | Config): A name of :func:`list_models`, a config file, the work directory of a training, or
            a config.
        pretrained (str | Path | bool, optional): Path or URL of a checkpoint of any format of docs/checkpoints.md; True
            for the newest checkpoint of the work directory or the weights shipped with the config. Defaults to False:
            the initial weights.
        device (str | torch.device, optional): Device of the model. Defaults to None, the CPU.
        **kwargs: Settings of ``model`` in the config to change, such as ``backbone=dict(drop_path_rate=0.1)``.

    Returns:
        BaseModel: The model, with its config in ``_config``.

    Raises:
        ConfigError: If the name or file does not exist, the model cannot be built, or its weights cannot be loaded.
    """
    cfg, weights = read_model(model)
    if pretrained is True and weights is None:
        raise ConfigError(f"no weights come with {_title(model)}. Give pretrained=FILE, a checkpoint of this model.")
    if pretrained is not True:
        weights = pretrained or None
    if kwargs:
        cfg.merge_from_dict(dict(model=kwargs))
    built, initial = build_model(cfg, weights)
    if initial:
        print_log(f"{weights} has no weights of: {', '.join(collapse(initial))}", "current", logging.WARNING)
    return built.to(device or "cpu").eval()


def from_pretrained(model: str | Path, device: str | torch.device | None = None, **kwargs: object) -> BaseModel:
    """Build a model with its trained weights, in evaluation mode.

    Args:
        model (str | Path): A name of :func:`list_models` with shipped weights, the work directory of a training, or a
            checkpoint. The config of a checkpoint must be in the same folder: either a file of the same name with
            ``.py``, which ``maskfeat convert --config`` writes, or the only config of the folder.
        device (str | torch.device, optional): Device of the model. Defaults to None, the CPU.
        **kwargs: Settings of ``model`` in the config to change, as in :func:`get_model`.

    Returns:
        BaseModel: The model, with its config in ``_config``.

    Raises:
        ConfigError: If the name or file does not exist, it has no weights or no config, or the model cannot be built.
    """
    path = Path(model)
    if not path.is_file() or path.suffix == ".py":
        return get_model(model, True, device, **kwargs)
    configs = [path.with_suffix(".py")] if path.with_suffix(".py").is_file() else sorted(path.parent.glob("*.py"))
    if len(configs) != 1:
        raise ConfigError(
            f"{path}: its folder holds {len(configs)} configs, but needs exactly one. Put the config of this model "
            f"there as {path.with_suffix('.py').name}, or use get_model(CONFIG, pretrained={str(path)!r})."
        )
    return get_model(configs[0], path, device, **kwargs)


def build_model(cfg: Config, weights: str | Path | None = None) -> tuple[BaseModel, list[str]]:
    """Build the model of a config with the weights of a checkpoint.

    A checkpoint of the same model is loaded without changes. From a checkpoint of another model or format,
    :func:`.load_into` loads the weights that fit.

    Args:
        cfg (Config): The config.
        weights (str | Path, optional): Path or URL of a checkpoint. Defaults to None: the initial weights.

    Returns:
        tuple[BaseModel, list[str]]: The model, with its config in ``_config``, and the names of parameters that the
        checkpoint has no weights for.

    Raises:
        ConfigError: If the model cannot be built, or the checkpoint does not exist or does not fit.
    """
    if weights is not None and isinstance(cfg.model.get("backbone"), dict):
        cfg.model.backbone.pop("init_cfg", None)  # this initial checkpoint is replaced and may be missing
    with named_errors(cfg, "cannot be built", ("model",)), _quiet_initialization():
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            model = MODELS.build(cfg.model)
            model.init_weights()
    model._config = cfg  # the inferencers of mmpretrain read the config from this attribute
    return model, [] if weights is None else _load_weights(model, weights)


def load_backbone(cfg: Config, checkpoint: str | Path, device: str = "cpu") -> nn.Module:
    """Build the model of a config and load a checkpoint into its backbone, in evaluation mode.

    Args:
        cfg (Config): Config of pre-training or fine-tuning; the ``init_cfg`` of its backbone is replaced.
        checkpoint (str | Path): Checkpoint of any format of docs/checkpoints.md, pre-trained or fine-tuned.
        device (str): Device of the model. Defaults to "cpu".

    Returns:
        nn.Module: The model. Its heads keep their initial weights. A neck with parameters, such as the FPN of a
        detector, is removed, so that the model gives the features of the backbone.

    Raises:
        ConfigError: If the model cannot be built or the checkpoint does not load.
    """
    cfg.model.backbone.init_cfg = dict(type="maskfeat.Pretrained", checkpoint=str(checkpoint))
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")), _quiet_initialization():
        try:
            model = MODELS.build(cfg.model)
            # only the backbone: a target generator may need files that features do not need
            model.backbone.init_weights()
        except (CheckpointError, OSError) as error:
            raise ConfigError(str(error)) from error
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"the model of {cfg.filename} cannot be built: {describe(error)}") from error
    neck = getattr(model, "neck", None)
    if neck is not None and any(True for _ in neck.parameters()):
        model.neck = None
    return model.to(device).eval()


def read_model(model: str | Path | Config) -> tuple[Config, Path | str | None]:
    """Read the config of a model and find the weights that come with it.

    Args:
        model (str | Path | Config): See :func:`get_model`.

    Returns:
        tuple[Config, Path | str | None]: A config that the caller may change, and the newest checkpoint of a work
        directory, the weights shipped with a config, or None.

    Raises:
        ConfigError: If the name or file does not exist.
    """
    if isinstance(model, Config):
        return copy.deepcopy(model), None
    if Path(model).is_dir():
        return _read_work_dir(Path(model))
    path = find_config(model)
    return load_config(path), _shipped_weights(path)


@contextmanager
def _quiet_initialization() -> Iterator[None]:
    """Keep mmengine's lines about the initialization of each parameter out of the log."""
    logger = MMLogger.get_current_instance()

    def is_ours(record: logging.LogRecord) -> bool:
        return record.module != "base_module"

    logger.addFilter(is_ours)
    try:
        yield
    finally:
        logger.removeFilter(is_ours)


def _load_weights(model: BaseModel, weights: str | Path) -> list[str]:
    """Load a checkpoint into a whole model, and return the names of the parameters that the checkpoint lacks."""
    try:
        content = load_file(local_file(weights))
        state = content.get("state_dict", content) if isinstance(content, dict) else {}
        wanted = model.state_dict()
        if all(name in state and state[name].shape == value.shape for name, value in wanted.items()):
            model.load_state_dict({name: state[name] for name in wanted})
            return []
        return load_into(model, read_checkpoint(weights)).initial
    except (CheckpointError, OSError) as error:
        raise ConfigError(str(error)) from error


def _read_work_dir(folder: Path) -> tuple[Config, Path | str | None]:
    """Read the config that a training wrote into its work directory, and find the newest checkpoint there."""
    configs = sorted(folder.glob("*.py"))
    if len(configs) != 1:
        what = f"{len(configs)} config files" if configs else "no config file"
        raise ConfigError(f"the folder {folder} holds {what}; give the work directory of one training, or its config.")
    try:
        return load_config(configs[0]), newest_whole(folder)
    except CheckpointError as error:
        raise ConfigError(str(error)) from error


def _listed_models() -> dict[str, ListedModel]:
    """Return all configs that can be trained, by name."""
    described = {}
    for metafile in sorted(configs_folder().glob("*/metafile.yml")):
        for entry in yaml.safe_load(metafile.read_text())["Models"]:
            described[entry["Name"]] = entry
    models = {}
    for name, path in named_configs().items():
        entry = described.get(name, {})
        tasks = tuple(result["Task"] for result in entry.get("Results", ()))
        models[name] = ListedModel(name, path, tasks, entry.get("Metadata", {}), _shipped_weights(path))
    return models


def _shipped_weights(config: Path) -> Path | None:
    path = config.parent / "weights" / f"{config.stem}.pth"
    return path if path.is_file() else None


def _title(model: str | Path | Config) -> str:
    return "this config" if isinstance(model, Config) else str(model)

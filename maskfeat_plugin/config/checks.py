"""Checks that find errors in a config before anything large is built."""

import copy
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import is_cuda_available, is_mlu_available, is_musa_available, is_npu_available
from mmengine.registry import FUNCTIONS, MODEL_WRAPPERS, OPTIMIZERS, DefaultScope, Registry

from maskfeat_cli.folders import tools_folder
from maskfeat_plugin.checkpoints import is_sharded
from maskfeat_plugin.datasets.folders import as_utf8
from maskfeat_plugin.datasets.manifest import is_manifest
from maskfeat_plugin.datasets.tar_shards import as_pattern, is_shards
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import MODELS

from .annotation_lists import check_list, check_manifest, check_shards
from .origins import describe_unknown_type, named_errors
from .sample_sizes import class_name, input_size
from .structure import limited_size
from .walking import every_part, leaf_datasets, walk

# Annotation files with one sample a line
_LINES = (".txt", ".csv")
# Keys of components that mmengine gets with Registry.get, which returns None for a name that is not registered
_TAKEN = {
    "optimizer": OPTIMIZERS,
    "collate_fn": FUNCTIONS,
    "worker_init_fn": FUNCTIONS,
    "model_wrapper_cfg": MODEL_WRAPPERS,
}


def check_config(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Check the files that a config names, its mask generators and its mixed precision.

    Args:
        cfg (Config): The config.
        dataloaders (Sequence[str]): Keys of the dataloaders that will be used; keys that the config lacks are skipped.
            If ``train_dataloader`` is one of them, weights, masks and precision of the training are checked too.

    Raises:
        ConfigError: With the wrong key or file, and the correct setting.
    """
    _check_text(cfg)
    _check_taken(cfg)
    for key in dataloaders:
        for dataset_key, dataset in leaf_datasets(cfg.get(key), key):
            check_dataset_files(dataset, dataset_key)
    _check_checkpoint(cfg.get("load_from"), "load_from")
    _check_strategy(cfg)
    if "train_dataloader" in dataloaders:
        for key, init_cfg in walk(cfg.get("model"), "model"):
            if str(init_cfg.get("type", "")).endswith("Pretrained"):
                _check_checkpoint(init_cfg.get("checkpoint"), f"{key}.checkpoint")
        _check_precision(cfg)
    _check_masks(cfg, dataloaders)


def check_dataset_files(dataset: dict, key: str) -> None:
    """Check that the root, annotation file and folders of a data set exist, and that the annotations are not empty.

    Args:
        dataset (dict): Config of a data set in the terms of ``mmengine.dataset.BaseDataset``.
        key (str): Its key in the config, for the message.

    Raises:
        ConfigError: If one of them does not exist.
    """
    root = dataset.get("data_root") or ""
    if not is_remote(root) and root and not Path(root).is_dir():
        raise ConfigError(
            f"{key}.data_root={root!r} is not there; {_say_how_to_make(root)}link the data to it or set another folder "
            f"with --cfg-options {key}.data_root=FOLDER."
        )
    ann_file = dataset.get("ann_file") or ""
    if is_shards(ann_file):
        with _naming_annotations(ann_file, key):
            check_shards(as_pattern(ann_file), root, dataset)
    elif ann_file and not is_remote(root, ann_file):
        path = Path(root, ann_file)
        if not path.is_file():
            hint = "" if root else f" ({key}.data_root is not set)"
            raise ConfigError(f"{key}.ann_file={ann_file!r}: the file {path} is not there{hint}.")
        check = check_list if path.suffix in _LINES else check_manifest if is_manifest(path) else None
        if check is not None:
            with _naming_annotations(ann_file, key):
                check(path, dataset)
    prefixes = dataset.get("data_prefix") or {}
    if isinstance(prefixes, str):
        prefixes = {"": prefixes}
    for name, prefix in prefixes.items():
        # a prefix may be the beginning of a file name, but then its folder must exist
        if prefix and not is_remote(root, prefix) and not Path(root, prefix).exists():
            full = ".".join(part for part in (key, "data_prefix", name) if part)
            raise ConfigError(f"{full}={prefix!r}: the folder {Path(root, prefix)} is not there.")


def _say_how_to_make(root: str) -> str:
    """Return a hint with the tool that prepares the data of a root such as ``data/kinetics400``, if there is one."""
    tools = sorted((tools_folder() / "data").glob("*.py"))
    tool = next((tool for tool in tools if Path(root).name.startswith(tool.stem)), None)
    return f"make it, as python {tool} --help says, " if tool else ""


def _check_taken(cfg: Config) -> None:
    """Check the types that mmengine gets from a registry without checking that they exist."""
    for key, node in walk(dict(cfg.items())):
        registry, kind = _TAKEN.get(key.rpartition(".")[2]), node.get("type")
        if registry is None or not isinstance(kind, str):
            continue
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
            if _find(registry, kind) is not None:  # else mmengine warns that mmpretrain has no functions of its own
                continue
            with registry.switch_scope_and_registry(None) as here:
                if _find(here, kind) is None:
                    raise ConfigError(f"{key} of {cfg.filename}: {describe_unknown_type(kind, here, cfg)}.")


def _find(registry: Registry, kind: str) -> object:
    try:  # mmaction2's registry of functions names a module that does not exist
        return registry.get(kind)
    except (RuntimeError, ImportError):  # a dotted name of an object that does not exist
        return None


def _check_masks(cfg: Config, dataloaders: Sequence[str]) -> None:
    """Compare the token grid of each mask generator with the backbone's."""
    generators = [
        (f"{key}.pipeline[{i}]", transform, input_size(dataset["pipeline"], cfg.get("default_scope")))
        for name in dataloaders
        for key, dataset in leaf_datasets(cfg.get(name), name)
        for i, transform in enumerate(dataset.get("pipeline") or ())
        if mask_grid(transform) is not None
    ]
    if not generators:
        return
    _check_preprocessor(cfg)
    backbone = _sketch_backbone(cfg)
    token_grid = getattr(backbone, "token_grid", None)
    if token_grid is None:
        return
    for key, transform, size in generators:
        if size is None:
            continue
        try:
            grid = tuple(token_grid(size))
        except ValueError as error:
            raise ConfigError(f"{key.rpartition('[')[0]}: {error}") from error
        name, given = mask_grid(transform) or ("", grid)
        if len(given) == 2:
            grid = grid[-2:]
        if given != grid:
            raise ConfigError(
                f"{key}.{name}={given} ({transform['type']}) does not fit model.backbone, whose tokens for inputs of "
                f"{size} are {grid}; set {name}={grid}."
            )


def _check_preprocessor(cfg: Config) -> None:
    """Check that the model accepts masks as an argument, if the data preprocessor is this package's."""
    settings = cfg.model.get("data_preprocessor")
    if not isinstance(settings, dict) or class_name(settings) != "MaskFeatDataPreprocessor":
        return
    with DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
        with MODELS.switch_scope_and_registry(None) as here:
            model = here.get(cfg.model.type) if isinstance(cfg.model.type, str) else cfg.model.type
    if model is not None and "mask" not in inspect.signature(model.forward).parameters:
        raise ConfigError(
            f"model.data_preprocessor: MaskFeatDataPreprocessor hands the masks to the model, and {cfg.model.type} "
            "takes them from the samples. Use mmpretrain.SelfSupDataPreprocessor, with "
            "train_dataloader.collate_fn=dict(type='default_collate')."
        )


def _sketch_backbone(cfg: Config) -> torch.nn.Module | None:
    """Build the backbone without memory for its parameters; return None if it needs their values."""
    if not isinstance(cfg.model.get("backbone"), dict):
        return None
    with named_errors(cfg, "cannot be built", ("model.backbone",)), limited_size():
        try:
            with DefaultScope.overwrite_default_scope(cfg.get("default_scope")), torch.device("meta"):
                return MODELS.build(copy.deepcopy(cfg.model.backbone))
        except (NotImplementedError, RuntimeError):  # it reads the values while it is built
            return None


def mask_grid(transform: dict) -> tuple[str, tuple[int, ...]] | None:
    """Return the setting of a mask generator that holds its grid.

    Args:
        transform (dict): Config of a transform.

    Returns:
        tuple[str, tuple[int, ...]] | None: The setting's name and the grid, for mask generators of this package and of
        mmpretrain. None for other transforms.
    """
    kind = class_name(transform)
    if not kind.endswith("MaskGenerator") or kind.endswith("SimMIMMaskGenerator"):  # SimMIM's size is in pixels
        return None
    for name in ("token_grid", "input_size"):
        grid = transform.get(name)
        if isinstance(grid, int):
            return name, (grid, grid)
        if isinstance(grid, list | tuple) and all(isinstance(length, int) for length in grid):
            return name, tuple(grid)
    return None


def _check_precision(cfg: Config) -> None:
    if not str(cfg.get("optim_wrapper", {}).get("type", "")).endswith("AmpOptimWrapper"):
        return
    if not any(is_there() for is_there in (is_cuda_available, is_npu_available, is_mlu_available, is_musa_available)):
        raise ConfigError(
            "optim_wrapper.type='AmpOptimWrapper' (mixed precision) needs a GPU, and there is none; train in float32 "
            "with --cfg-options optim_wrapper.type=OptimWrapper."
        )


def _check_text(cfg: Config) -> None:
    """Refuse text that is not UTF-8, because log files cannot hold it."""
    for key, text in every_part(dict(cfg.items())):
        if isinstance(text, str) and text != as_utf8(text):
            raise ConfigError(f"{key}={as_utf8(text)!r} is not UTF-8. Rename the file or folder, or link to it.")


def _check_strategy(cfg: Config) -> None:
    """Check the requirements of the strategies of mmengine's ``FlexibleRunner``."""
    strategy = str((cfg.get("strategy") or {}).get("type", ""))
    if strategy and cfg.get("runner_type") != "FlexibleRunner":
        raise ConfigError(f"strategy.type={strategy!r} has no effect without runner_type='FlexibleRunner'; set it.")
    if cfg.get("runner_type") == "FlexibleRunner" and cfg.get("env_cfg") is None:
        raise ConfigError(
            "runner_type='FlexibleRunner' needs env_cfg; set env_cfg=dict(dist_cfg=dict(backend='nccl'))."
        )
    shards = strategy.endswith("FSDPStrategy")
    if shards and cfg.get("launcher", "none") == "none":
        raise ConfigError(
            f"strategy.type={strategy!r} shards the model over processes, but this is a single one; start several with "
            f"tools/dist_train.sh CONFIG PROCESSES, or tools/slurm_train.sh, which are in {tools_folder()}."
        )
    name = ((cfg.get("default_hooks") or {}).get("checkpoint") or {}).get("filename_tmpl") or ""
    if is_sharded(name) and not shards:
        raise ConfigError(
            f"default_hooks.checkpoint.filename_tmpl={name!r}: only strategy.type='maskfeat.FSDPStrategy' writes "
            "sharded checkpoints; give a name that ends in .pth."
        )


def _check_checkpoint(checkpoint: str | None, key: str) -> None:
    if not checkpoint or is_remote(checkpoint):
        return
    path = Path(checkpoint)
    if not (path.is_dir() if is_sharded(path) else path.is_file()):
        raise ConfigError(
            f"{key}={checkpoint!r}: the file is not there; give another file or a URL with --cfg-options {key}=FILE."
        )


@contextmanager
def _naming_annotations(ann_file: object, key: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(f"{key}.ann_file={ann_file!r}: {error}") from error


def is_remote(*paths: str) -> bool:
    """Check whether a file client reads a path, such as https://..., s3:... or torchvision://... ."""
    return any(re.match(r"[a-z0-9+]{2,}:", str(path)) for path in paths)

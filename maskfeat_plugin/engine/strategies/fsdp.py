"""Strategy for training with sharded parameters, gradients and optimizer state."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import mmengine
import torch
from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.registry import FUNCTIONS
from mmengine.runner.checkpoint import save_checkpoint
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from maskfeat_plugin.checkpoints import CheckpointError, is_sharded, map_values, write_shards
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.models.losses import MomentumContrast
from maskfeat_plugin.models.target_generators import SelfTeacherGenerator
from maskfeat_plugin.registry import STRATEGIES

_SETTINGS = ("auto_wrap_policy", "mixed_precision", "reshard_after_forward")
# Settings of the first version of FSDP, which earlier releases of this package used
_OUTDATED = dict(
    type="Remove it.",
    sharding_strategy="Set reshard_after_forward=True for FULL_SHARD, False for SHARD_GRAD_OP.",
    cast_root_forward_inputs="Remove it. cast_forward_inputs is for the whole model.",
)


@STRATEGIES.register_module()
class FSDPStrategy(DDPStrategy):
    """Strategy that shards a model block by block with torch's ``fully_shard``, on GPUs or CPUs.

    Training is the same as data parallel training: the parameters are ``DTensor`` with their true names and shapes, so
    weight decay by dimension, learning rates by layer and clipping by the norm of all gradients need no changes.

    A checkpoint whose name ends in ".sharded" is a folder to which every process writes its own shards, see
    :func:`write_shards`. A checkpoint with any other name is one file. Both can be resumed by any strategy with any
    number of processes::

        default_hooks = dict(checkpoint=dict(filename_tmpl='epoch_{}.sharded'))

    Args:
        model_wrapper (dict, optional): ``auto_wrap_policy``: the name of a function of a module in the registry
            ``FUNCTIONS``, which says whether the module is one unit; by default ``'maskfeat.is_block'``.
            ``mixed_precision``: the arguments of torch's ``MixedPrecisionPolicy``, with names of types.
            ``reshard_after_forward``: as in ``fully_shard``. Defaults to None: one unit per block in float32.
        activation_checkpointing (dict, optional): ``check_fn``: the name of a function as above. The activations of
            modules for which it is true are computed again in the backward pass. Defaults to None.
        **kwargs: All other arguments of ``DDPStrategy``.

    Raises:
        ConfigError: If a setting is unknown.
    """

    def __init__(
        self, *, model_wrapper: dict | None = None, activation_checkpointing: dict | None = None, **kwargs: Any
    ) -> None:
        settings = dict(model_wrapper or {})
        precision = dict(settings.pop("mixed_precision", None) or {})
        names = MixedPrecisionPolicy.__dataclass_fields__
        _refuse_others(settings, _SETTINGS, "strategy.model_wrapper")
        _refuse_others(precision, names, "strategy.model_wrapper.mixed_precision")
        _refuse_others(activation_checkpointing or {}, ("check_fn",), "strategy.activation_checkpointing")
        precision = {key: _type(key, value) if isinstance(value, str) else value for key, value in precision.items()}
        super().__init__(**kwargs)
        self._is_unit = _function(settings.pop("auto_wrap_policy", "maskfeat.is_block"))
        self._is_recomputed = _function((activation_checkpointing or {}).get("check_fn"))
        self._settings = dict(settings, mp_policy=MixedPrecisionPolicy(**precision))

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        for module in model.modules():
            if isinstance(module, SelfTeacherGenerator | MomentumContrast):
                raise ConfigError(
                    f"FSDPStrategy: {type(module).__name__} averages the weights of the whole model, "
                    "but no process has all weights. Train it without strategy, by data parallelism."
                )
        model = self.convert_model(model)
        mesh = init_device_mesh(get_device(), (get_world_size(),))
        for module in reversed(list(model.modules())):  # inner modules first
            if self._is_recomputed(module):
                module.forward = partial(checkpoint, module.forward, use_reentrant=False)
            if module is model or self._is_unit(module):
                fully_shard(module, mesh=mesh, **self._settings)
        register_fsdp_forward_method(model, "extract_feat")
        return model.to(get_device())  # buffers

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable[[dict], None] | None = None,
    ) -> None:
        """Save a checkpoint. Every process has to call this method.

        Args:
            filename (str): A file, or a folder if it ends in ".sharded".
            save_optimizer (bool): Whether to save the optimizer's state. Defaults to True.
            save_param_scheduler (bool): Whether to save the schedulers' states. Defaults to True.
            extra_ckpt (dict, optional): More entries of the checkpoint. Defaults to None.
            callback (Callable[[dict], None], optional): Function that may change the checkpoint. Defaults to None.
        """
        content = dict(state_dict=dict(self.model.state_dict()))
        if save_optimizer and hasattr(self, "optim_wrapper"):
            content["optimizer"] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, "param_schedulers"):
            content["param_schedulers"] = self.scheduler_state_dict()
        content.update(extra_ckpt or {})
        content["meta"] = dict(
            content.get("meta", {}),
            seed=self.seed,
            time=time.strftime("%Y%m%d_%H%M%S", time.localtime()),
            mmengine=mmengine.__version__,
        )
        if not is_sharded(filename):
            content = map_values(content, _gather)
        if callback is not None:
            callback(content)
        if is_sharded(filename):
            write_shards(content, filename)
        elif is_main_process():
            save_checkpoint(content, filename)

    def load_model_state_dict(self, state_dict: dict[str, Tensor], **kwargs: Any) -> None:
        """Load the weights of the whole model. Each process keeps its shards.

        Args:
            state_dict (dict[str, Tensor]): Weights of the unsharded model, the same on every process.
            **kwargs: As in the parent.
        """
        shards = self.model.state_dict()
        state_dict = {name.removeprefix("module."): value for name, value in state_dict.items()}
        state_dict = {name: _shard(value, shards.get(name)) for name, value in state_dict.items()}
        super().load_model_state_dict(state_dict, **kwargs)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load an optimizer's state that any strategy saved. Each process keeps its shards.

        Args:
            state_dict (dict): State of an optimizer wrapper with whole tensors, the same on every process.

        Raises:
            CheckpointError: If the state is for another number of parameters.
        """
        params = [param for group in self.optim_wrapper.optimizer.param_groups for param in group["params"]]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        if len(numbers) != len(params):
            raise CheckpointError(
                f"The optimizer in the checkpoint has {len(numbers)} parameters, the optimizer of this config "
                f"{len(params)}. Resume with the config that was trained, or set load_from to load the weights alone."
            )
        like = dict(zip(numbers, params, strict=True))
        state = {
            number: {key: _shard(value, like[number]) for key, value in values.items()}
            for number, values in state_dict["state"].items()
        }
        super().load_optim_state_dict(dict(state_dict, state=state))


def _refuse_others(given: dict, known: Any, key: str) -> None:
    """Refuse settings that are not known, and name their successors."""
    for name in given:
        if name not in known:
            advice = _OUTDATED.get(name, f"Known are {', '.join(known)}.")
            raise ConfigError(f"{key}.{name}: FSDPStrategy has no such setting. {advice}")


def _type(key: str, name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ConfigError(f"strategy.model_wrapper.mixed_precision.{key}={name!r}: give a type such as 'bfloat16'.")
    return found


def _function(given: Any) -> Callable[[nn.Module], bool]:
    """Return a function of modules from the name under which it is registered; one that is false without a name."""
    if given is None:
        return lambda module: False
    found = FUNCTIONS.get(given) if isinstance(given, str) else given
    if not callable(found):
        raise ConfigError(
            f"{given!r} is not in the registry FUNCTIONS. Give the name of a function, such as 'maskfeat.is_block'."
        )
    return found


def _gather(value: Any) -> Any:
    """Return the whole tensor of shards, on the CPU of the first process only. Every process has to call it."""
    whole = value.full_tensor() if isinstance(value, DTensor) else value
    if not isinstance(whole, Tensor):
        return whole
    return whole.cpu() if is_main_process() else None


def _shard(value: Any, like: Any) -> Any:
    """Cut a whole tensor as the shards of a parameter of the same shape are cut."""
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value

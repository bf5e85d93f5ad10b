"""Strategy for training with sharded parameters, gradients and optimizer state."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mmengine
import torch
from mmengine._strategy import FSDPStrategy as _FSDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.optim import BaseOptimWrapper, build_optim_wrapper
from mmengine.runner.checkpoint import save_checkpoint
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FullOptimStateDictConfig,
    FullStateDictConfig,
    OptimStateDictConfig,
    ShardedOptimStateDictConfig,
    ShardedStateDictConfig,
    StateDictConfig,
    StateDictType,
)
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP

from maskfeat_plugin.checkpoints import CheckpointError, is_sharded, write_shards
from maskfeat_plugin.models.target_generators import SelfTeacherGenerator
from maskfeat_plugin.registry import STRATEGIES

# Parts that torch's wrappers add to the names of parameters
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


@STRATEGIES.register_module()
class FSDPStrategy(_FSDPStrategy):
    """mmengine's ``FSDPStrategy``, sharded by blocks. Training and checkpoints are as in data parallel training.

    Differences from mmengine 0.10.7:

    - The optimizer is built before the parameters are sharded into flat pieces. Weight decay by dimension and learning
      rates by layer therefore use the true dimensions and the true names.
    - The gradient norm is computed over all shards.
    - The optimizer's state is loaded with the order of arguments that torch has used since 2.1. It is saved under
      numbers, as ``torch.optim`` does, so that any runner and strategy can resume from it.
    - The strategy runs on a CPU.
    - A checkpoint whose name ends in ".sharded" is a folder to which every process writes its own shards, see
      :func:`write_shards`. A checkpoint with any other name is one file. Both can be resumed with any number of
      processes::

          default_hooks = dict(checkpoint=dict(filename_tmpl='epoch_{}.sharded'))

    Args:
        model_wrapper (dict, optional): Settings of ``MMFullyShardedDataParallel``. Defaults to None: one unit per
            block, as ``auto_wrap_policy='maskfeat.wrap_blocks'`` makes them.
        **kwargs: All other arguments of mmengine's class except ``state_dict_cfg``, which the checkpoint's name
            replaces.
    """

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs: Any) -> None:
        wrapper = dict(type="MMFullyShardedDataParallel", auto_wrap_policy="maskfeat.wrap_blocks")
        wrapper.update(model_wrapper or {})
        super().__init__(model_wrapper=wrapper, state_dict_cfg="full", **kwargs)

    def prepare(
        self,
        model: nn.Module | dict,
        *,
        optim_wrapper: BaseOptimWrapper | dict | None = None,
        **kwargs: Any,
    ) -> Any:
        """Build the parts that are given as configs, the optimizer for the model before sharding; see the parent."""
        if not self._prepared:
            model = self.build_model(model)
            if any(isinstance(module, SelfTeacherGenerator) for module in model.modules()):
                raise ValueError(
                    "FSDPStrategy: SelfTeacherGenerator averages the weights of the whole model, "
                    "but no process has all weights. Train it without strategy, by data parallelism."
                )
            if isinstance(optim_wrapper, dict):
                optim_wrapper = build_optim_wrapper(model, optim_wrapper)
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper, model: FSDP) -> BaseOptimWrapper:
        """Replace the parameters in an optimizer of the unsharded model by their shards.

        Args:
            optim_wrapper (BaseOptimWrapper): The optimizer wrapper of the model before sharding, without state.
            model (FSDP): The sharded model.

        Returns:
            BaseOptimWrapper: The same object.
        """
        shards = {_plain_name(name): param for name, param in model.named_parameters()}
        self._numbered = []  # names of the parameters in the order by which torch.optim numbers them
        for group in optim_wrapper.optimizer.param_groups:
            names = [self.id_to_name[id(param)] for param in group["params"]]
            group["params"] = [shards[name] for name in names]
            self._numbered.extend(names)
        if getattr(optim_wrapper, "clip_func", None) is nn.utils.clip_grad_norm_:
            # A process would compute the norm of its own shard alone, which is too small
            optim_wrapper.clip_func = lambda params, **settings: model.clip_grad_norm_(**settings)
        return optim_wrapper

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
        sharded = is_sharded(filename)
        kind = StateDictType.SHARDED_STATE_DICT if sharded else StateDictType.FULL_STATE_DICT
        with _state_dict_type(self.model, kind):
            checkpoint = dict(state_dict=self.model.state_dict())
            if save_optimizer and hasattr(self, "optim_wrapper"):
                checkpoint["optimizer"] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, "param_schedulers"):
            checkpoint["param_schedulers"] = self.scheduler_state_dict()
        checkpoint.update(extra_ckpt or {})
        checkpoint["meta"] = dict(
            checkpoint.get("meta", {}),
            seed=self.seed,
            time=time.strftime("%Y%m%d_%H%M%S", time.localtime()),
            mmengine=mmengine.__version__,
        )
        if callback is not None:
            callback(checkpoint)
        if sharded:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # about the type of the shards
                write_shards(checkpoint, filename)
        elif is_main_process():
            save_checkpoint(checkpoint, filename)

    def load_model_state_dict(
        self, state_dict: dict[str, Tensor], *, strict: bool = False, revise_keys: list | None = None
    ) -> None:
        """Load the weights of the whole model. Each process keeps its shards.

        Args:
            state_dict (dict[str, Tensor]): Weights of the unsharded model, the same on every process.
            strict (bool): Whether missing or unknown keys raise an error instead of a warning in the log. Defaults to
                False.
            revise_keys (list, optional): Not used: checkpoints of all strategies have the same names. Defaults to None.
        """
        with _state_dict_type(self.model, StateDictType.FULL_STATE_DICT, rank0_only=False):
            found = self.model.load_state_dict(state_dict, strict=strict)
        for what, keys in (("missing in", found.missing_keys), ("unknown, of", found.unexpected_keys)):
            if keys:
                print_log(f"Keys {what} the checkpoint: {', '.join(keys)}", logger="current", level=logging.WARNING)

    def optim_state_dict(self) -> dict:
        """Return the optimizer wrapper's state in the form of ``torch.optim``, with whole tensors or shards.

        The state dict type that is set on the model decides between whole tensors and shards.
        """
        state = self.optim_wrapper.state_dict()
        numbers = {name: number for number, name in enumerate(self._numbered)}
        by_name = FSDP.optim_state_dict(self.model, self.optim_wrapper.optimizer)
        # if the tensors are whole, the state is empty on all processes except the first
        state["state"] = {numbers[name]: value for name, value in by_name.get("state", {}).items()}
        return state

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load an optimizer's state that any strategy saved. Each process keeps its shards.

        Args:
            state_dict (dict): State of an optimizer wrapper with whole tensors, the same on every process.

        Raises:
            CheckpointError: If the state is for another number of parameters.
        """
        state_dict = dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        if len(numbers) != len(self._numbered):
            raise CheckpointError(
                f"The optimizer in the checkpoint has {len(numbers)} parameters, the optimizer of this config "
                f"{len(self._numbered)}. Resume with the config that was trained, or set load_from to load the weights "
                "alone."
            )
        names = dict(zip(numbers, self._numbered, strict=True))
        by_name = dict(
            state={names[number]: dict(value) for number, value in state_dict["state"].items()},
            param_groups=[
                dict(group, params=[names[number] for number in group["params"]])
                for group in state_dict["param_groups"]
            ],
        )
        with _state_dict_type(self.model, StateDictType.FULL_STATE_DICT, rank0_only=False):
            shards = FSDP.optim_state_dict_to_load(
                model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=by_name
            )
        self.optim_wrapper.load_state_dict({**state_dict, **shards})

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if get_device() == "cpu":
            self.model_wrapper.setdefault("device_id", torch.device("cpu"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # about set_state_dict_type, which mmengine calls
            return super()._wrap_model(model)


def _plain_name(name: str) -> str:
    """Return the name that a parameter had before the model was wrapped."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


@contextmanager
def _state_dict_type(model: nn.Module, kind: StateDictType, rank0_only: bool = True) -> Iterator[None]:
    """Set the form of saved states: whole tensors on the CPU (by default of the first process only), or shards."""
    offload = get_device() != "cpu"  # if the tensors are on the CPU already, offloading frees memory that is returned
    configs: tuple[StateDictConfig, OptimStateDictConfig]
    if kind == StateDictType.FULL_STATE_DICT:
        settings = dict(rank0_only=rank0_only, offload_to_cpu=offload)
        configs = FullStateDictConfig(**settings), FullOptimStateDictConfig(**settings)
    else:
        configs = ShardedStateDictConfig(offload_to_cpu=offload), ShardedOptimStateDictConfig(offload_to_cpu=offload)
    with warnings.catch_warnings():
        # The new interface names parameters in the optimizer's state differently from mmengine's other strategies
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", module=r"torch\.distributed\.fsdp\._shard_utils")  # calls within torch itself
        with FSDP.state_dict_type(model, kind, *configs):
            yield

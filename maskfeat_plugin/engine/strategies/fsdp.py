"""Training with sharded parameters, gradients and optimizer state."""

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

# What the wrappers of torch put into the names of parameters
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


@STRATEGIES.register_module()
class FSDPStrategy(_FSDPStrategy):
    """mmengine's ``FSDPStrategy``, block by block, whose training and checkpoints are those of data parallel training.

    Beyond mmengine 0.10.7:

    - The optimizer is built before the parameters are sharded, which then are flat pieces: weight decay goes by their
      true dimensions and the layers' learning rates by their true names.
    - The gradient norm is that of all shards.
    - The optimizer's state is loaded, with the order of arguments that torch has had since 2.1, and saved under numbers
      as ``torch.optim`` names it, so that any runner and strategy resumes from it.
    - It runs on a CPU.
    - A checkpoint whose name ends in ".sharded" becomes a folder to which every process writes its own shards, see
      :func:`write_shards`; of any other name it is one file. Either resumes with any number of processes::

          default_hooks = dict(checkpoint=dict(filename_tmpl='epoch_{}.sharded'))

    Args:
        model_wrapper (dict, optional): Settings of ``MMFullyShardedDataParallel``. Defaults to None: a unit of every
            block, which is what ``auto_wrap_policy='maskfeat.wrap_blocks'`` stands for.
        **kwargs: Everything else of mmengine's, save ``state_dict_cfg``: the name decides.
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
        """Build what is given as config, the optimizer on the model as it is before it is sharded; see the parent."""
        if not self._prepared:
            model = self.build_model(model)
            if any(isinstance(module, SelfTeacherGenerator) for module in model.modules()):
                raise ValueError(
                    "FSDPStrategy: SelfTeacherGenerator averages the weights of the whole "
                    "model, which no process has; train it without strategy, by data parallelism."
                )
            if isinstance(optim_wrapper, dict):
                optim_wrapper = build_optim_wrapper(model, optim_wrapper)
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    def build_optim_wrapper(self, optim_wrapper: BaseOptimWrapper, model: FSDP) -> BaseOptimWrapper:
        """Give an optimizer of the plain model the shards in its place.

        Args:
            optim_wrapper (BaseOptimWrapper): Of the model before it was sharded, without state.
            model (FSDP): The sharded model.

        Returns:
            BaseOptimWrapper: The same.
        """
        shards = {_plain_name(name): param for name, param in model.named_parameters()}
        self._numbered = []  # names of the parameters in the order by which torch.optim numbers them
        for group in optim_wrapper.optimizer.param_groups:
            names = [self.id_to_name[id(param)] for param in group["params"]]
            group["params"] = [shards[name] for name in names]
            self._numbered.extend(names)
        if getattr(optim_wrapper, "clip_func", None) is nn.utils.clip_grad_norm_:
            # of its own shard alone a process would take a norm that is too small
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
        """Save a checkpoint; to be called by every process.

        Args:
            filename (str): A file, or a folder if it ends in ".sharded".
            save_optimizer (bool): Whether the optimizer's state goes with it. Defaults to True.
            save_param_scheduler (bool): Whether the schedulers' states go with it. Defaults to True.
            extra_ckpt (dict, optional): What else goes with it. Defaults to None.
            callback (Callable[[dict], None], optional): May change the checkpoint. Defaults to None.
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
                warnings.simplefilter("ignore", FutureWarning)  # of the type of the shards
                write_shards(checkpoint, filename)
        elif is_main_process():
            save_checkpoint(checkpoint, filename)

    def load_model_state_dict(
        self, state_dict: dict[str, Tensor], *, strict: bool = False, revise_keys: list | None = None
    ) -> None:
        """Load the whole model's weights, of which each process keeps its shards.

        Args:
            state_dict (dict[str, Tensor]): Weights of the plain model, the same on every process.
            strict (bool): Whether keys that are missing or unknown are an error; otherwise they are logged. Defaults to
                False.
            revise_keys (list, optional): Not used: checkpoints of all strategies have the same names. Defaults to None.
        """
        with _state_dict_type(self.model, StateDictType.FULL_STATE_DICT, rank0_only=False):
            found = self.model.load_state_dict(state_dict, strict=strict)
        for what, keys in (("missing in", found.missing_keys), ("unknown, of", found.unexpected_keys)):
            if keys:
                print_log(f"Keys {what} the checkpoint: {', '.join(keys)}", logger="current", level=logging.WARNING)

    def optim_state_dict(self) -> dict:
        """State of the optimizer wrapper as ``torch.optim`` has it, of whole tensors or shards, as set on the model."""
        state = self.optim_wrapper.state_dict()
        numbers = {name: number for number, name in enumerate(self._numbered)}
        by_name = FSDP.optim_state_dict(self.model, self.optim_wrapper.optimizer)
        # empty on all but the first process, if the tensors are whole
        state["state"] = {numbers[name]: value for name, value in by_name.get("state", {}).items()}
        return state

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load an optimizer's state of any strategy, of which each process keeps its shards.

        Args:
            state_dict (dict): State of an optimizer wrapper with whole tensors, the same on every process.

        Raises:
            CheckpointError: If it is of another number of parameters.
        """
        state_dict = dict(state_dict)
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        if len(numbers) != len(self._numbered):
            raise CheckpointError(
                f"The optimizer in the checkpoint has {len(numbers)} parameters, that of this config "
                f"{len(self._numbered)}; resume the config that was trained, or load_from the weights alone."
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
            warnings.simplefilter("ignore", FutureWarning)  # of set_state_dict_type, which mmengine calls
            return super()._wrap_model(model)


def _plain_name(name: str) -> str:
    """Name of a parameter in the model before it was wrapped."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


@contextmanager
def _state_dict_type(model: nn.Module, kind: StateDictType, rank0_only: bool = True) -> Iterator[None]:
    """Whole tensors on the CPU (of the first process only), or shards, in what the model and its optimizer save."""
    offload = get_device() != "cpu"  # where they are there already, torch frees the memory that it would hand out
    configs: tuple[StateDictConfig, OptimStateDictConfig]
    if kind == StateDictType.FULL_STATE_DICT:
        settings = dict(rank0_only=rank0_only, offload_to_cpu=offload)
        configs = FullStateDictConfig(**settings), FullOptimStateDictConfig(**settings)
    else:
        configs = ShardedStateDictConfig(offload_to_cpu=offload), ShardedOptimStateDictConfig(offload_to_cpu=offload)
    with warnings.catch_warnings():
        # the new interface has other names of parameters in the optimizer's state than mmengine's other strategies
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", module=r"torch\.distributed\.fsdp\._shard_utils")  # torch's own calls
        with FSDP.state_dict_type(model, kind, *configs):
            yield

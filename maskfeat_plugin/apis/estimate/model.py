"""Parameters, FLOPs and activation memory of a model, found by a training step on tensors without memory.

The step is taken on fake tensors (``torch._subclasses.fake_tensor``), which know shapes and types and hold no numbers,
so that the largest model takes a minute on a laptop. torch's ``FlopCounterMode`` counts matrix products, convolutions
and attention; memory is what lives at the peak.
"""

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, sdpa_backward_flop_count, sdpa_flop_count

from maskfeat_plugin.config.sample_sizes import sample_channels
from maskfeat_plugin.config.training_inputs import input_size, mask_generator
from maskfeat_plugin.config.walking import remove_weights
from maskfeat_plugin.engine import is_block
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.models import MaskFeat
from maskfeat_plugin.ops.gate import FastPathMode
from maskfeat_plugin.registry import MODELS, TRANSFORMS
from maskfeat_plugin.running.log_streams import quiet

# Samples of the two steps whose difference is what a sample takes
_SAMPLES = (8, 16)


@dataclass(frozen=True)
class ModelCosts:
    """What a model takes.

    Attributes:
        trained: Parameters that are trained.
        frozen: Those that are not: fixed positions, a teacher.
        largest_unit: Parameters of the largest block, which a sharded model gathers as one.
        forward_flops: FLOPs of the forward pass for a sample, a multiplication and an addition counted as two.
        step_flops: Those of forward and backward pass, with what is computed anew.
        activations: Bytes at the peak of a step for each sample, beyond weights, gradients and optimizer.
        workspace: Bytes at the peak whatever the number of samples: casts of the weights, mainly.
        mixed: Whether in mixed precision.
        recomputes: Whether blocks are computed anew in the backward pass.
    """

    trained: int
    frozen: int
    largest_unit: int
    forward_flops: float
    step_flops: float
    activations: float
    workspace: float
    mixed: bool
    recomputes: bool


def model_costs(cfg: Config, mixed: bool | None = None) -> ModelCosts:
    """Take a training step of a config's model on fake tensors.

    Args:
        cfg (Config): Of pre-training by :class:`MaskFeat`, or of classification or recognition.
        mixed (bool, optional): Whether under autocast to 16 bits. Defaults to None: as the config says.

    Returns:
        ModelCosts: Parameters, FLOPs and memory.

    Raises:
        ConfigError: If the model is none of these or cannot be built.
    """
    mixed = is_mixed(cfg) if mixed is None else mixed
    recomputes = bool((cfg.get("strategy") or {}).get("activation_checkpointing")) or bool(
        cfg.model.get("backbone", {}).get("with_cp")
    )
    steps = [_Step(cfg, samples, mixed, recomputes) for samples in _SAMPLES]
    parameters = [(p.numel(), p.requires_grad) for p in steps[0].model.parameters()]
    blocks = [sum(p.numel() for p in module.parameters()) for module in steps[0].model.modules() if is_block(module)]
    for step in steps:
        try:
            step.run()
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise ConfigError(
                f"{cfg.filename} cannot be estimated: its model computes with numbers while shapes alone are known "
                f"({error}), as teachers do; estimate that of another target."
            ) from error
    # of more samples other moments are the peak, up to here
    activations = max(steps[1].peak - steps[0].peak, 0) / (_SAMPLES[1] - _SAMPLES[0])
    return ModelCosts(
        trained=sum(number for number, trained in parameters if trained),
        frozen=sum(number for number, trained in parameters if not trained),
        largest_unit=max(blocks, default=0),
        forward_flops=steps[1].forward_flops / _SAMPLES[1],
        step_flops=steps[1].step_flops / _SAMPLES[1],
        activations=activations,
        workspace=max(steps[1].peak - _SAMPLES[1] * activations, 0),
        mixed=mixed,
        recomputes=recomputes,
    )


def is_mixed(cfg: Config) -> bool:
    """Whether a config trains in mixed precision, by its optimizer wrapper or by DeepSpeed."""
    kind = str(cfg.get("optim_wrapper", {}).get("type", ""))
    deepspeed = (cfg.get("strategy") or {}).get("config", {})
    by_deepspeed = any((deepspeed.get(key) or {}).get("enabled") for key in ("torch_autocast", "bf16", "fp16"))
    return kind.endswith(("AmpOptimWrapper", "BFloat16OptimWrapper")) or by_deepspeed


class LiveBytes(FastPathMode):
    """Counts the bytes of the tensors that operations make, as long as each of them lives.

    Args:
        known (list[Tensor]): Tensors that are there before and are not counted.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._seen = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation and count what it has made."""
        if func is torch.ops.aten.index.Tensor:
            args = (args[0], _places(args[1]), *args[2:])
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:  # a view
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, size)

    def _release(self, size: int) -> None:
        self.live -= size


def _places(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Indices with places instead of masks, whose number of places a fake tensor does not know."""
    places: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool:
            places.extend(index.nonzero(as_tuple=True))
        else:
            places.append(index)
    return places


class _Step:
    """A training step on fake tensors: only shapes and types are computed.

    Blocks that are computed anew are reckoned with, not computed anew: of each only the output is kept, and then one
    after the other is there as a whole.
    """

    def __init__(self, cfg: Config, samples: int, mixed: bool, recomputes: bool) -> None:
        self.mixed, self.recomputes = mixed, recomputes
        self.peak = self.forward_flops = self.step_flops = 0
        model = copy.deepcopy(cfg.model)
        remove_weights(model)
        model.get("backbone", {}).pop("with_cp", None)
        if "target_generator" not in model and "roi_head" not in model:  # mixing of labels draws numbers
            for key in ("data_preprocessor", "train_cfg"):
                model.pop(key, None)
        fake = FakeTensorMode(allow_non_fake_inputs=True)  # masks are not
        try:
            with fake, quiet(), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
                self.model = MODELS.build(model).train()
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError, NotImplementedError) as error:
            raise ConfigError(f"model of {cfg.filename} cannot be built: {describe(error)}") from error
        self.loss = _loss_function(cfg, self.model, samples, fake)

    def run(self) -> None:
        """Take the step; its costs are there afterwards."""
        parameters = list(self.model.parameters())
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        known = [*parameters, *self.model.buffers(), *(p.grad for p in parameters if p.grad is not None)]
        counter = FlopCounterMode(display=False, custom_mapping=_COUNTS)
        live = LiveBytes(known)
        before: list[tuple[int, int]] = []
        kept, outputs, flops = [], [], []

        def enter(module: nn.Module, args: Any) -> None:
            before.append((live.live, counter.get_total_flops()))

        def leave(module: nn.Module, args: Any, out: Any) -> None:
            was_live, was_counted = before.pop()
            kept.append(live.live - was_live)
            outputs.append(sum(t.numel() * t.element_size() for t in tree_leaves(out) if isinstance(t, Tensor)))
            flops.append(counter.get_total_flops() - was_counted)

        for module in self.model.modules():
            if self.recomputes and is_block(module):
                module.register_forward_pre_hook(enter)
                module.register_forward_hook(leave)
        with live, counter:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
                loss = self.loss()
            self.forward_flops = counter.get_total_flops()
            loss.backward()
        self.step_flops = counter.get_total_flops() + sum(flops)
        self.peak = live.peak - (sum(kept) - sum(outputs)) + max(kept, default=0)


def _loss_function(cfg: Config, model: BaseModel, samples: int, fake: FakeTensorMode) -> Callable[[], Tensor]:
    """A function of no arguments that takes the forward pass of a model, up to a scalar.

    Masks are true ones: how many tokens they hide decides about shapes.
    """
    size = (sample_channels(cfg), *input_size(cfg))
    with fake:
        images = [torch.zeros(size, dtype=torch.uint8) for _ in range(samples)]
        inputs = torch.zeros(samples, *size)
    if isinstance(model, MaskFeat):
        draw = TRANSFORMS.build(dict(mask_generator(cfg), seed=0))
        marked = [DataSample(mask=draw({"sample_idx": i})["mask"]) for i in range(samples)]
        batch = model.data_preprocessor(dict(inputs=images, data_samples=marked), training=True)

        def masked_loss() -> Tensor:
            return sum(value for name, value in model(**batch, mode="loss").items() if name.startswith("loss"))

        return masked_loss
    head = getattr(model, "cls_head", None) or getattr(model, "head", None)
    if head is None or not hasattr(model, "extract_feat") or hasattr(model, "roi_head"):
        raise ConfigError(
            f"{cfg.filename}: estimates are for pre-training, classification and recognition, not for "
            f"{type(model).__name__}."
        )

    def plain_loss() -> Tensor:
        return head(model.backbone(inputs)).float().sum()

    return plain_loss


def _attention_flops(query: tuple, key: tuple, value: tuple, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward_flops(grad: tuple, query: tuple, key: tuple, value: tuple, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def _convolution_backward_flops(grad: tuple, x: tuple, weight: tuple, *args: Any, **kwargs: Any) -> int:
    """Each gradient takes what the convolution took; torch's own count forgets the groups."""
    transposed, wanted = args[4], args[7]
    return sum(wanted[:2]) * conv_flop_count(list(x), list(weight), list(grad), transposed=transposed)


# torch counts the kernels of attention on a GPU alone
_COUNTS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    torch.ops.aten.convolution_backward: _convolution_backward_flops,
}

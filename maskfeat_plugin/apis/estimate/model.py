"""Parameters, FLOPs and activation memory of a model, measured in a training step on tensors without memory.

The step runs on fake tensors (``torch._subclasses.fake_tensor``). They have shapes and types but hold no numbers, so
that even the largest model takes only a minute on a laptop. torch's ``FlopCounterMode`` counts the FLOPs of matrix
products, convolutions and attention. The memory is the total size of the tensors that are alive at the peak.
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
from maskfeat_plugin.config.training_inputs import collate, input_size, mask_generator, views_per_sample
from maskfeat_plugin.config.walking import remove_weights
from maskfeat_plugin.engine import is_block
from maskfeat_plugin.errors import ConfigError, describe
from maskfeat_plugin.models import MaskFeat
from maskfeat_plugin.ops.gate import FastPathMode
from maskfeat_plugin.registry import MODELS, TRANSFORMS
from maskfeat_plugin.running.log_streams import quiet

# Batch sizes of the two steps. The difference between the steps gives the memory of one sample.
_SAMPLES = (8, 16)


@dataclass(frozen=True)
class ModelCosts:
    """Parameters, FLOPs and memory of a model in training.

    Attributes:
        trained: Number of parameters that are trained.
        frozen: Number of parameters that are not trained, such as fixed positions or a teacher.
        largest_unit: Number of parameters of the largest block, which a sharded model gathers as a whole.
        forward_flops: FLOPs of the forward pass for one sample; a multiplication and an addition count as two.
        step_flops: FLOPs of forward and backward pass for one sample, including recomputed blocks.
        activations: Bytes at the peak of a step for each sample, without weights, gradients and optimizer.
        workspace: Bytes at the peak that do not depend on the number of samples, mainly casts of the weights.
        mixed: Whether the training uses mixed precision.
        recomputes: Whether the backward pass recomputes blocks.
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
    """Compute the parameters, FLOPs and memory of a config's model, by a training step on fake tensors.

    Args:
        cfg (Config): Config of pre-training with :class:`MaskFeat`, of classification or of recognition.
        mixed (bool, optional): Whether to compute under autocast to 16 bits. Defaults to None: the config decides.

    Returns:
        ModelCosts: Parameters, FLOPs and memory.

    Raises:
        ConfigError: If the model is of another kind, cannot be built, or cannot be estimated.
    """
    if cfg.model.get("global_loss"):
        raise ConfigError(
            f"{cfg.filename} cannot be estimated: its global_loss copies the encoder, and an estimate has no values to "
            "copy. Estimate the config without global_loss. The copy adds a forward pass without gradients."
        )
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
                f"{cfg.filename} cannot be estimated: its model needs the values of tensors, as teachers do, and an "
                f"estimate knows only their shapes ({error}). Estimate a config with another target."
            ) from error
    # with fewer samples than these, the peak is at another moment of the step
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
    """Check whether a config trains in mixed precision, by its optimizer wrapper."""
    kind = str(cfg.get("optim_wrapper", {}).get("type", ""))
    return kind.endswith(("AmpOptimWrapper", "BFloat16OptimWrapper"))


class LiveBytes(FastPathMode):
    """Counter of the bytes of all living tensors that operations have made.

    Args:
        known (list[Tensor]): Tensors that exist before; they are not counted.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._seen = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run an operation and count the tensors that it makes."""
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
    """Replace boolean masks in an index by positions: fake tensors do not know how many values of a mask are True."""
    places: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool:
            places.extend(index.nonzero(as_tuple=True))
        else:
            places.append(index)
    return places


class _Step:
    """A training step on fake tensors: only shapes and types are computed.

    Recomputation of blocks is not run, but included in the results: of each block only the output stays in memory, and
    the other tensors of one block at a time are added at the peak.
    """

    def __init__(self, cfg: Config, samples: int, mixed: bool, recomputes: bool) -> None:
        self.mixed, self.recomputes = mixed, recomputes
        self.peak = self.forward_flops = self.step_flops = 0
        model = copy.deepcopy(cfg.model)
        remove_weights(model)
        model.get("backbone", {}).pop("with_cp", None)
        if "target_generator" not in model and "roi_head" not in model:  # mixing of labels draws random numbers
            for key in ("data_preprocessor", "train_cfg"):
                model.pop(key, None)
        fake = FakeTensorMode(allow_non_fake_inputs=True)  # masks are real tensors
        try:
            with fake, quiet(), DefaultScope.overwrite_default_scope(cfg.get("default_scope")):
                self.model = MODELS.build(model).train()
        except (ValueError, TypeError, KeyError, AttributeError, AssertionError, NotImplementedError) as error:
            raise ConfigError(f"model of {cfg.filename} cannot be built: {describe(error)}") from error
        self.loss = _loss_function(cfg, self.model, samples, fake)

    def run(self) -> None:
        """Run the step and store its costs as attributes."""
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
    """Build a function without arguments that runs the forward pass of a model and returns a scalar.

    The masks are real tensors, because the number of masked tokens determines shapes.
    """
    size = (sample_channels(cfg), *input_size(cfg))
    samples *= views_per_sample(cfg)
    with fake:
        images = [torch.zeros(size, dtype=torch.uint8) for _ in range(samples)]
        inputs = torch.zeros(samples, *size)
    if isinstance(model, MaskFeat):
        draw = TRANSFORMS.build(dict(mask_generator(cfg), seed=0))
        marked = [DataSample(mask=draw({"sample_idx": i})["mask"]) for i in range(samples)]
        batch = model.data_preprocessor(collate(cfg, images, marked), training=True)

        def masked_loss() -> Tensor:
            return sum(value for name, value in model(**batch, mode="loss").items() if name.startswith("loss"))

        return masked_loss
    head = getattr(model, "cls_head", None) or getattr(model, "head", None)
    if head is None or not hasattr(model, "extract_feat") or hasattr(model, "roi_head"):
        raise ConfigError(
            f"{cfg.filename}: estimates are for pre-training, classification and recognition, not for "
            f"{type(model).__name__}. Give a config of one of these tasks."
        )

    def plain_loss() -> Tensor:
        return head(model.backbone(inputs)).float().sum()

    return plain_loss


def _attention_flops(query: tuple, key: tuple, value: tuple, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward_flops(grad: tuple, query: tuple, key: tuple, value: tuple, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


def _convolution_backward_flops(grad: tuple, x: tuple, weight: tuple, *args: Any, **kwargs: Any) -> int:
    """Count the FLOPs of both gradients of a convolution. Each takes as many as the convolution itself.

    torch's own function ignores the groups of the convolution.
    """
    transposed, wanted = args[4], args[7]
    return sum(wanted[:2]) * conv_flop_count(list(x), list(weight), list(grad), transposed=transposed)


# torch counts only the attention kernels of GPUs
_COUNTS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    torch.ops.aten.convolution_backward: _convolution_backward_flops,
}

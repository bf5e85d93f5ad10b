"""Operators of a training step, and the bytes that they read and write, counted without running them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from maskfeat_plugin.ops.gate import FastPathMode

from .finetuning import mmaction_pair, mmpretrain_pair, timm_pair, torchvision_pair

# Operators that only make a tensor, and touch none of its values
_FREE = {"_unsafe_view", "alias", "detach", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty"}


@dataclass(frozen=True)
class CountedWork:
    """Counted work of a fine-tuning step, forward and backward pass, for the plugin and a peer.

    Args:
        job (str): The model and its inputs.
        peer (str): Name of the peer.
        operators (tuple[int, int]): Number of operators here and in the peer. On a GPU, each is at least one launch.
        traffic (tuple[int, int]): Bytes that the operators read and write: the plugin's, the peer's.
    """

    job: str
    peer: str
    operators: tuple[int, int]
    traffic: tuple[int, int]


class _Counter(FastPathMode):
    """Dispatch mode that counts operators, and the bytes of the tensors that they take and return."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.traffic = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket.__name__ not in _FREE:
            tensors = [value for value in tree_leaves((args, kwargs, out)) if isinstance(value, Tensor)]
            self.operators += 1
            self.traffic += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def count_step(model: nn.Module, size: tuple[int, ...]) -> tuple[int, int]:
    """Count the work of a forward and a backward pass in bfloat16.

    It runs on the "meta" device, which computes nothing: paths for CPUs are off, and attention is counted as its
    products and its softmax, not as one fused kernel.

    Args:
        model (nn.Module): A model with logits as its result. It is moved to the "meta" device.
        size (tuple[int, ...]): Size of the inputs.

    Returns:
        tuple[int, int]: Operators, and bytes read and written. Views count nothing.
    """
    model = model.to("meta", torch.bfloat16)
    model.train()
    with _Counter() as counter:
        model(torch.empty(size, device="meta", dtype=torch.bfloat16)).float().square().mean().backward()
    return counter.operators, counter.traffic


def count_steps() -> Iterator[CountedWork]:
    """Count the work of fine-tuning steps against the packages with the same models.

    Yields:
        CountedWork: MViT-S against torchvision and mmaction2, ViT-B against mmpretrain and, if it is installed, timm.
    """
    clip, images = (1, 3, 16, 224, 224), (8, 3, 224, 224)
    pairs: list[tuple[str, str, Callable[[], tuple[nn.Module, nn.Module]], tuple[int, ...]]] = [
        ("MViT-S 16 x 4, 1 clip", "torchvision", torchvision_pair, clip),
        ("MViT-S 16 x 4, 1 clip", "mmaction2", mmaction_pair, clip),
        ("ViT-B/16, 8 images", "mmpretrain", mmpretrain_pair, images),
    ]
    if find_spec("timm") is not None:
        pairs.append(("ViT-B/16, 8 images", "timm", timm_pair, images))
    for job, peer, build, size in pairs:
        ours, theirs = (count_step(model, size) for model in build())
        yield CountedWork(job, peer, (ours[0], theirs[0]), (ours[1], theirs[1]))


def format_counted_work(rows: Iterator[CountedWork]) -> str:
    """Format counted work as a Markdown table.

    Args:
        rows (Iterator[CountedWork]): The rows.

    Returns:
        str: The table, with traffic in gigabytes of 10**9 bytes.
    """
    lines = [
        "| fine-tuning step | peer | operators here | peer | share | GB here | peer | share |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row.job} | {row.peer} | {row.operators[0]} | {row.operators[1]} | "
            f"{row.operators[0] / row.operators[1]:.2f} | {row.traffic[0] / 1e9:.2f} | {row.traffic[1] / 1e9:.2f} | "
            f"{row.traffic[0] / row.traffic[1]:.2f} |"
        )
    return "\n".join(lines)

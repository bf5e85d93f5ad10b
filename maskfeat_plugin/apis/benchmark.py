"""Times of the plugin's parts against the packages that do the same job, in one process, one after the other."""

import math
import platform
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from maskfeat_plugin.registry import MODELS, TRANSFORMS


@dataclass(frozen=True)
class Comparison:
    """One job done by two.

    Args:
        job (str): What is done.
        peer (str): Who else does it.
        ours (Callable[[], object]): Does it by the plugin.
        theirs (Callable[[], object]): Does it by the peer.
    """

    job: str
    peer: str
    ours: Callable[[], object]
    theirs: Callable[[], object]


def measure(comparison: Comparison, repeats: int, device: torch.device) -> tuple[float, float]:
    """Median times of both, measured in turn, so that a busy machine slows both.

    Args:
        comparison (Comparison): What to time.
        repeats (int): Runs of each, after one to warm up.
        device (torch.device): Where it runs; a GPU is waited for.

    Returns:
        tuple[float, float]: Seconds of ours and of theirs.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 1):
        for kept, run in zip(times, (comparison.ours, comparison.theirs), strict=True):
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if i:
                kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def comparisons(device: torch.device) -> list[Comparison]:
    """Everything that is compared.

    Args:
        device (torch.device): Where models and tensors are.

    Returns:
        list[Comparison]: HOG of images, HOG of masked tokens, a training step of MViT-S, masks.
    """
    return [*_hog(device), _mvit(device), *_masks()]


def _hog(device: torch.device) -> list[Comparison]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(16, 3, 224, 224, generator=generator).to(device)
    masks = torch.rand(16, 1, 14, 14, generator=generator).to(device) < 0.4
    ours = MODELS.build(dict(type="maskfeat.HOGGenerator")).to(device)
    theirs = MODELS.build(dict(type="mmpretrain.HOGGenerator")).to(device)
    return [
        Comparison("HOG, 16 images of 224 x 224", "mmpretrain", lambda: ours(images), lambda: theirs(images)),
        Comparison(
            "HOG of the 40 % that are masked",
            "mmpretrain",
            lambda: ours(images, masks),
            lambda: theirs(images)[masks.flatten(1)],
        ),
    ]


def _mvit(device: torch.device) -> Comparison:
    settings = dict(arch="small", dim_mul_in_attention=False)
    theirs = MODELS.build(dict(type="mmaction.MViT", **settings)).to(device)
    ours = MODELS.build(dict(type="maskfeat.MViT", **settings)).to(device)
    ours.load_state_dict(theirs.state_dict())
    clip = torch.randn(1, 3, 16, 224, 224, generator=torch.Generator().manual_seed(0)).to(device)
    return Comparison(
        "MViT-S 16 x 4, 1 clip, forward and backward",
        "mmaction2",
        lambda: _step(ours, clip),
        lambda: _step(theirs, clip),
    )


def _step(model: nn.Module, clip: Tensor) -> None:
    model.zero_grad()
    model(clip)[-1][1].sum().backward()


def _masks() -> list[Comparison]:
    blocks = TRANSFORMS.build(dict(type="maskfeat.BlockMaskGenerator", token_grid=(14, 14)))
    beit = TRANSFORMS.build(
        dict(type="mmpretrain.BEiTMaskGenerator", input_size=14, num_masking_patches=78, min_num_patches=15)
    )
    cubes = TRANSFORMS.build(dict(type="maskfeat.CubeMaskGenerator", token_grid=(8, 14, 14)))
    return [
        Comparison(
            "1000 block-wise masks of 14 x 14",
            "mmpretrain",
            lambda: [blocks({}) for _ in range(1000)],
            lambda: [beit({}) for _ in range(1000)],
        ),
        Comparison(
            "100 cube masks of 8 x 14 x 14",
            "a loop over the patches",
            lambda: [cubes({}) for _ in range(100)],
            lambda: [dict(mask=cubes_by_loops((8, 14, 14), 0.4)) for _ in range(100)],
        ),
    ]


def cubes_by_loops(grid: tuple[int, int, int], mask_ratio: float, min_aspect: float = 0.3) -> np.ndarray:
    """The masks of ``CubeMaskGenerator``, patch by patch in plain Python.

    Args:
        grid (tuple[int, int, int]): Token grid (T, H, W).
        mask_ratio (float): Share of the tokens to hide.
        min_aspect (float): Least aspect ratio; the greatest is its inverse. Defaults to 0.3.

    Returns:
        np.ndarray: bool (T, H, W).
    """
    steps, height, width = grid
    mask = [[[False] * width for _ in range(height)] for _ in range(steps)]
    left = round(mask_ratio * steps * height * width)
    failures = 0
    while left and failures < 100:
        failures += 1
        area = random.uniform(height * width // 5, height * width)
        aspect = math.exp(random.uniform(math.log(min_aspect), -math.log(min_aspect)))
        size = (random.randint(1, steps), round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect)))
        if size[1] >= height or size[2] >= width:
            continue
        start = [random.randint(0, side - length) for side, length in zip(grid, size, strict=True)]
        frames, rows, columns = (range(first, first + length) for first, length in zip(start, size, strict=True))
        new = 0
        for t in frames:
            for i in rows:
                for j in columns:
                    if not mask[t][i][j]:
                        new += 1
        if 0 < new <= left:
            for t in frames:
                for i in rows:
                    for j in columns:
                        mask[t][i][j] = True
            left -= new
            failures = 0
    free = [(t, i, j) for t in range(steps) for i in range(height) for j in range(width) if not mask[t][i][j]]
    for t, i, j in random.sample(free, left):
        mask[t][i][j] = True
    return np.array(mask)


def format_table(rows: list[tuple[Comparison, float, float]]) -> str:
    """The times as a Markdown table.

    Args:
        rows (list[tuple[Comparison, float, float]]): What was compared, seconds of ours and of theirs.

    Returns:
        str: The table.
    """
    lines = ["| job | here, ms | peer, ms | peer | times faster |", "| --- | ---: | ---: | --- | ---: |"]
    for comparison, ours, theirs in rows:
        lines.append(
            f"| {comparison.job} | {ours * 1e3:.1f} | {theirs * 1e3:.1f} | {comparison.peer} | {theirs / ours:.1f} |"
        )
    return "\n".join(lines)


def describe_machine(device: torch.device) -> str:
    """The device, the number of threads and the versions that the times hold for."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, float32"

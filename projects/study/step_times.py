"""Times of a training step with each target and each kind of efficient pre-training, relative to HOG."""

from collections.abc import Collection, Iterator
from pathlib import Path

import torch
from mmengine.config import Config

from maskfeat_plugin.config.walking import remove_weights
from projects.benchmark import measure
from projects.benchmark.steps import compare_steps

from .settings import CONFIGS

# Name of a study -> the configs whose steps are timed
PATTERNS = {
    "targets": ("targets/maskfeat-*_moving-digits.py", "mixing/maskfeat_*teacher_moving-digits.py"),
    "efficient": ("efficient/maskfeat-*_moving-digits.py",),
    "contrast": ("contrast/maskfeat-*_moving-digits.py",),
}


def step_times(
    repeats: int,
    device: torch.device,
    mask_ratio: float = 0.4,
    batch_size: int | None = None,
    studies: Collection[str] = tuple(PATTERNS),
) -> Iterator[tuple[str, float, float]]:
    """Time a training step of the small models for each target and each efficient config, and compare it with HOG.

    The steps of both run in turns, so that a busy machine slows both. Weights of teachers are not read, which does not
    change the times.

    Args:
        repeats (int): Timed steps of each; the result is the median.
        device (torch.device): Device of the steps.
        mask_ratio (float): Share of masked tokens. Defaults to 0.4.
        batch_size (int, optional): Samples per step. Defaults to None, the config's.
        studies (Collection[str]): Names of ``PATTERNS``. Defaults to all of them.

    Yields:
        tuple[str, float, float]: Name of the config, seconds of its step, seconds of HOG's step.
    """
    patterns = [pattern for study in studies for pattern in PATTERNS[study]]
    for path in sorted(path for pattern in patterns for path in CONFIGS.glob(pattern)):
        kind = "mvit" if "_mvit-" in path.name else "vit"
        base = Config.fromfile(CONFIGS / "demo" / f"maskfeat_{kind}-tiny_moving-digits.py")
        cfg = Config.fromfile(path)
        remove_weights(cfg.model)
        samples = batch_size or base.train_dataloader.batch_size
        comparison = compare_steps(cfg, base, mask_ratio, samples, device)
        found = measure(comparison, repeats, device)
        yield path.stem, found.ours, found.theirs


def format_step_times(rows: list[tuple[str, float, float]]) -> str:
    """Format the times as a Markdown table.

    Args:
        rows (list[tuple[str, float, float]]): Rows of :func:`step_times`.

    Returns:
        str: The table.
    """
    lines = ["| config | step, ms | HOG's step, ms | times as long |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {Path(n).stem} | {1e3 * a:.0f} | {1e3 * b:.0f} | {a / b:.2f} |" for n, a, b in rows]
    return "\n".join(lines)

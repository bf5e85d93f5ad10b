"""Sampler that reads tar shards one after another, in an order that differs from epoch to epoch."""

from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dataset import DefaultSampler

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ShardSampler(DefaultSampler):
    """Sampler of tar shards for training: it shuffles the shards, and then the samples of neighbouring places.

    ``DefaultSampler`` reads a sample of any shard at any time. On a disk or a network storage that is slow for small
    reads, use this sampler instead: a process reads few shards at a time, and each of them once in an epoch.

    The shards are put into a random order, which is the same for all processes. Each process takes an equal, connected
    part of this order. Then each sample moves by less than ``window`` places. So each sample is in an epoch exactly
    once, except that with ``round_up=True`` the first ones are repeated to give all processes the same number. The
    order depends only on the seed and the epoch, so a training resumes at any step with the same samples.

    Samples that are neighbours in a shard are often in the same batch if ``window`` is small. ``to_shards.py`` writes
    samples in random order, so this has no effect on classes.

    Args:
        dataset (Sized): A data set of tar shards, also within ``maskfeat.SkipBadFiles``.
        window (int): Largest distance by which a sample moves. Defaults to 2000.
        seed (int, optional): As for ``DefaultSampler``. Defaults to None, a random seed.
        round_up (bool): As for ``DefaultSampler``. Defaults to True.

    Raises:
        ConfigError: If the data set has no tar shards, or other samples than the samples of its shards.
        ValueError: If ``window`` is below 1.
    """

    def __init__(self, dataset: Sized, window: int = 2000, seed: int | None = None, round_up: bool = True) -> None:
        if window < 1:
            raise ValueError(f"ShardSampler: window={window} must be at least 1.")
        sizes = list(getattr(dataset, "shard_sizes", ()))
        if sum(sizes) != len(dataset) or not sizes:
            raise ConfigError(
                "ShardSampler: it needs a data set of tar shards, whose samples are the samples of the shards. Use "
                "DefaultSampler for this data set."
            )
        super().__init__(dataset, shuffle=True, seed=seed, round_up=round_up)
        self.window = window
        self._ends: Any = np.cumsum(sizes)

    def __iter__(self) -> Iterator[int]:
        """Return the sample numbers of this process, in the order of the current epoch."""
        order = self._shuffled_shards()
        counts = [(self.total_size - rank + self.world_size - 1) // self.world_size for rank in range(self.world_size)]
        start = sum(counts[: self.rank])
        mine = np.take(order, np.arange(start, start + counts[self.rank]), mode="wrap")
        moved = np.arange(len(mine)) + self._generator(self.rank + 1).random(len(mine)) * self.window
        return iter(mine[np.argsort(moved, kind="stable")].tolist())

    def _shuffled_shards(self) -> np.ndarray:
        """Return all sample numbers, shard by shard."""
        starts = np.concatenate([[0], self._ends[:-1]])
        shards = self._generator(0).permutation(len(starts))
        return np.concatenate([np.arange(starts[shard], self._ends[shard]) for shard in shards])

    def _generator(self, part: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, part))

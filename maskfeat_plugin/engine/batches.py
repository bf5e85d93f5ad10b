"""Batches whose order and randomness depend on the seed and on their number alone, from wherever training goes on."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader


def seed_random(*key: int) -> None:
    """Set the random states of Python, numpy and torch on the CPU.

    Args:
        *key (int): Non-negative numbers; different ones give unrelated states.
    """
    words = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))


# Batches that are remembered: more than any workers draw ahead
_REMEMBERED = 4096


@dataclass(frozen=True)
class SeededBatch:
    """Numbers of the samples of a batch. Each is given out with the random states set for what is read of it.

    A dataloader's worker, or its process, draws a number and then reads the sample. So neither the number of workers
    nor the samples before make a difference to the sample.

    Attributes:
        indices: The numbers.
        key: Of the batch, for :func:`seed_random`.
    """

    indices: list[int]
    key: tuple[int, ...]

    def __iter__(self) -> Iterator[int]:
        for place, index in enumerate(self.indices):
            seed_random(*self.key, place)
            yield index

    def __len__(self) -> int:
        return len(self.indices)


class ResumableBatchSampler:
    """A batch sampler that begins where it is told to, and seeds each batch by the number of the training step.

    Args:
        batch_sampler (Any): What it takes the batches from, always the same ones for the same epoch.
        seed (Callable[[], int]): Gives this process's seed.
        endless (bool): Whether to go through ``batch_sampler`` again and again, as mmengine's loop by iterations does,
            and to tell its sampler the number of the pass. Defaults to False.
    """

    def __init__(self, batch_sampler: Any, seed: Callable[[], int], endless: bool = False) -> None:
        self.batch_sampler = batch_sampler
        self._seed = seed
        self._endless = endless
        self._skipped = self._step = 0
        self._given: deque[tuple[int, list[int]]] = deque(maxlen=_REMEMBERED)

    def __getattr__(self, name: str) -> Any:
        if name == "batch_sampler":  # while it is copied
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def begin(self, skipped: int, step: int) -> None:
        """Say where the next iteration begins.

        Args:
            skipped (int): Batches to leave out.
            step (int): Number of the training step that takes the first one.
        """
        self._skipped, self._step = skipped, step

    def __iter__(self) -> Iterator[SeededBatch]:
        seed, skipped, step = self._seed(), self._skipped, self._step
        for number, indices in enumerate(self._passes() if self._endless else self.batch_sampler):
            if number >= skipped:
                self._given.append((step + number - skipped, list(indices)))
                yield SeededBatch(list(indices), (seed, step + number - skipped))

    def samples_of(self, step: int) -> list[int]:
        """Numbers of the samples of one of the last batches, in the data set.

        Args:
            step (int): Number of the training step.
        """
        return next((indices for number, indices in reversed(self._given) if number == step), [])

    def _passes(self) -> Iterator[list[int]]:
        number = 0
        while True:
            empty = True
            for indices in self.batch_sampler:
                empty = False
                yield indices
            if empty:
                raise ValueError("train_dataloader gives no batch: there are fewer samples than batch_size.")
            number += 1
            if hasattr(self.batch_sampler.sampler, "set_epoch"):
                self.batch_sampler.sampler.set_epoch(number)


def make_resumable(dataloader: DataLoader, seed: Callable[[], int], endless: bool = False) -> ResumableBatchSampler:
    """Have a dataloader, before anything is drawn from it, take its batches from a :class:`ResumableBatchSampler`.

    Args:
        dataloader (DataLoader): One that makes batches; changed in place.
        seed (Callable[[], int]): Gives this process's seed.
        endless (bool): Whether it never ends. Defaults to False.

    Returns:
        ResumableBatchSampler: Its new batch sampler.
    """
    batches = ResumableBatchSampler(dataloader.batch_sampler, seed, endless)
    # past DataLoader.__setattr__, which guards against this once workers have their tasks. A batch sampler given at
    # the beginning would leave the dataloader without its batch_size, by which mmengine scales the learning rate.
    object.__setattr__(dataloader, "batch_sampler", batches)
    return batches

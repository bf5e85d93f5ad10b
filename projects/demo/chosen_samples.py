"""Choice of the test samples that the demo's page shows. They have different digits."""

from collections.abc import Collection, Sequence
from pathlib import Path


def read_digits(data_root: Path) -> dict[str, list[str]]:
    """Read the digit of each sample of the test split.

    Args:
        data_root (Path): Root of MovingDigits.

    Returns:
        dict[str, list[str]]: Name of the pre-training -> digits of its pictures or clips, in their order. The digit of
        a clip is "" if no picture comes from this clip.
    """
    pictures, clips = (
        [line.split() for line in (data_root / "annotations" / f"{name}_test.txt").read_text().splitlines()]
        for name in ("image", "motion")
    )
    of_clip = {Path(file).stem.partition("_")[0]: digit for file, digit in pictures}
    return {
        "image": [digit for _, digit in pictures],
        "video": [of_clip.get(Path(file).stem, "") for file, _ in clips],
    }


def choose_different(labels: Sequence[str], count: int, without: Collection[str] = ()) -> list[int]:
    """Choose samples of different labels.

    Args:
        labels (Sequence[str]): Label of each sample.
        count (int): Number of samples to choose. Fewer are chosen if there are fewer labels.
        without (Collection[str]): Labels to leave out. Defaults to ().

    Returns:
        list[int]: Indices. For each label, the first sample with this label is chosen.
    """
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        if label not in without:
            first.setdefault(label, index)
    return list(first.values())[:count]

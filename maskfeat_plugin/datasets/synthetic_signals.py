"""Two small data sets that are built without a download: Sounds (WAV files) and Solids (volumes, .npy files)."""

import json
import os
import tempfile
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from maskfeat_plugin.files import move_into_place, naming

SOUNDS = ("clicks", "fall", "noise", "rise", "tone", "tremolo", "trill", "vibrato")
"""Names of the classes of Sounds, sorted as class folders are. The label of a class is its index here."""

SOLIDS = ("ball", "box", "cone", "cross", "cylinder", "pair", "shell", "torus")
"""Names of the classes of Solids, sorted as class folders are. The label of a class is its index here."""

SAMPLE_RATE = 8000
"""Samples per second of Sounds."""

VERSION = 1
"""Increased whenever the same settings give other data."""

_SAMPLES = 9600  # 1.2 seconds
_SHAPE = (12, 36, 36)  # slices, height, width of a volume


def build_sounds(
    root: str | os.PathLike[str], seed: int = 0, num_train: int = 1600, num_test: int = 800, num_labelled: int = 80
) -> Path:
    """Build Sounds: WAV files of 1.2 seconds, 8 kHz, 16 bits, in eight classes, with noise and a second faint tone.

    Below ``root`` are ``train/`` and ``test/`` with one folder for each class, and the lists ``train.txt``,
    ``test.txt`` and ``labelled.txt``: a balanced part of the training files. A line is the path and the label.

    Args:
        root (str | PathLike): Folder of the data set.
        seed (int): Seed of all random numbers. The same settings give the same bytes. Defaults to 0.
        num_train (int): Number of training files. Defaults to 1600.
        num_test (int): Number of test files. Defaults to 800.
        num_labelled (int): Number of files in ``labelled.txt``. Defaults to 80.

    Returns:
        Path: The root.

    Raises:
        FileExistsError: If ``root`` has other data.
        WriteError: If the data set cannot be written.
        ValueError: If a number is not positive, or ``num_labelled`` is larger than ``num_train``.
    """
    return _build(Path(root), "Sounds", SOUNDS, _write_sound, ".wav", seed, num_train, num_test, num_labelled)


def build_solids(
    root: str | os.PathLike[str], seed: int = 0, num_train: int = 1600, num_test: int = 800, num_labelled: int = 400
) -> Path:
    """Build Solids: int16 volumes (12, 36, 36) of a turned solid in noise, in eight classes.

    A solid is darker or lighter than its surroundings, and a small second ball is somewhere in the volume. Folders,
    lists, arguments and errors are as for :func:`build_sounds`.

    Args:
        root (str | PathLike): Folder of the data set.
        seed (int): Seed of all random numbers. Defaults to 0.
        num_train (int): Number of training files. Defaults to 1600.
        num_test (int): Number of test files. Defaults to 800.
        num_labelled (int): Number of files in ``labelled.txt``. Defaults to 400.

    Returns:
        Path: The root.
    """
    return _build(Path(root), "Solids", SOLIDS, _write_solid, ".npy", seed, num_train, num_test, num_labelled)


def draw_sound(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a sound.

    Args:
        kind (str): One of :data:`SOUNDS`.
        rng (np.random.Generator): Source of random numbers.

    Returns:
        np.ndarray: float64 (9600,) in [-1, 1].
    """
    time = np.arange(_SAMPLES) / SAMPLE_RATE
    start, length = rng.uniform(0, 0.3), rng.uniform(0.6, 0.9)
    inside = np.clip((time - start) / length, 0, 1)  # 0 before the sound, 1 after it
    envelope = np.sin(np.pi * inside) ** rng.uniform(0.2, 0.6)
    beat = np.sin(2 * np.pi * rng.uniform(4, 8) * time)
    pitch = np.full(_SAMPLES, 2 ** rng.uniform(8, 10.5))  # 256 to 1448 Hz
    span = rng.uniform(0.5, 1.0)  # octaves
    if kind in ("rise", "fall"):
        pitch *= 2 ** (span * (inside - 0.5) * (1 if kind == "rise" else -1))
    elif kind == "vibrato":
        pitch *= 2 ** (0.2 * span * beat)
    elif kind == "trill":
        pitch *= 2 ** (0.2 * span * np.sign(beat))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    harmonics = rng.uniform(0.1, 1, rng.integers(1, 4))
    sound = sum(size * np.sin((i + 1) * phase) for i, size in enumerate(harmonics)) / harmonics.sum()
    if kind == "noise":
        slow = np.convolve(rng.standard_normal(_SAMPLES + 31), np.hanning(32) / 4, "valid")
        sound = slow * np.sin(phase)  # a band around the pitch
    elif kind == "clicks":
        age = np.mod(time, rng.uniform(0.06, 0.12))  # seconds since the last click
        sound = sound * np.exp(-age / 0.008) * 2
    elif kind == "tremolo":
        sound = sound * (0.5 + 0.5 * beat)
    other = np.sin(2 * np.pi * 2 ** rng.uniform(8, 11.5) * time + rng.uniform(0, 6))
    noise = rng.standard_normal(_SAMPLES) * rng.uniform(0.05, 0.3) + other * rng.uniform(0.02, 0.2)
    mixed = envelope * sound + noise
    return mixed / np.abs(mixed).max() * rng.uniform(0.2, 0.95)


def draw_solid(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a volume with a solid.

    Args:
        kind (str): One of :data:`SOLIDS`.
        rng (np.random.Generator): Source of random numbers.

    Returns:
        np.ndarray: int16 (12, 36, 36), about -400 to 400.
    """
    axes = [np.linspace(-1, 1, size) for size in _SHAPE]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)  # (D, H, W, 3)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    places = (grid - rng.uniform(-0.25, 0.25, 3)) @ turn / rng.uniform(0.7, 1.0)
    contrast = rng.uniform(90, 200) * rng.choice([-1, 1])
    volume = contrast * _inside(_distance(kind, places * rng.uniform(0.85, 1.15, 3)))
    ball = np.linalg.norm(grid - rng.uniform(-0.9, 0.9, 3), axis=-1) - rng.uniform(0.1, 0.25)
    volume += rng.uniform(-200, 200) * _inside(ball)
    volume += (grid * rng.uniform(-60, 60, 3)).sum(-1) + rng.standard_normal(_SHAPE) * rng.uniform(4, 12)
    return volume.round().astype(np.int16)


def _distance(kind: str, places: np.ndarray) -> np.ndarray:
    """Compute a function (D, H, W) of places (D, H, W, 3) that is negative inside a solid of about unit size."""
    x, y, z = np.moveaxis(places, -1, 0)
    radius = np.hypot(x, y)
    far = np.linalg.norm(places, axis=-1)
    sides = np.sort(np.abs(places), axis=-1)
    if kind == "ball":
        return far - 0.85
    if kind == "box":
        return sides[..., 2] - 0.7
    if kind == "cylinder":
        return np.maximum(radius - 0.5, np.abs(z) - 1)
    if kind == "torus":
        return np.hypot(radius - 0.7, z) - 0.28
    if kind == "cone":
        return np.maximum(radius - 0.45 * (1 - z), np.abs(z) - 1)
    if kind == "cross":
        return np.maximum(sides[..., 1] - 0.25, sides[..., 2] - 1)
    if kind == "shell":
        return np.abs(far - 0.75) - 0.15
    return np.minimum(*(np.linalg.norm(places - [0, 0, side], axis=-1) for side in (-0.65, 0.65))) - 0.5


def _inside(distance: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(distance / 0.05, -50, 50)))


def _write_sound(path: Path, kind: str, rng: np.random.Generator) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((draw_sound(kind, rng) * 32767).round().astype("<i2").tobytes())


def _write_solid(path: Path, kind: str, rng: np.random.Generator) -> None:
    np.save(path, draw_solid(kind, rng))


def _build(
    root: Path,
    name: str,
    classes: tuple[str, ...],
    write: Callable[[Path, str, np.random.Generator], None],
    ending: str,
    seed: int,
    num_train: int,
    num_test: int,
    num_labelled: int,
) -> Path:
    """Write the files and lists beside the root, and rename the folder when it is complete."""
    settings = dict(seed=seed, num_train=num_train, num_test=num_test, num_labelled=num_labelled)
    for key, value in list(settings.items())[1:]:
        if not 0 < value <= (num_train if key == "num_labelled" else value):
            raise ValueError(f"{name}: {key} must be positive, and num_labelled at most num_train, got {value}.")
    metadata = json.dumps(dict(name=name, version=VERSION, classes=classes, **settings))
    if root.exists() and any(root.iterdir()):
        if (root / "metadata.json").is_file() and (root / "metadata.json").read_text() == metadata:
            return root
        raise FileExistsError(f"{root} holds other data. Choose another folder, or remove it.")
    with naming(root):
        root.parent.mkdir(parents=True, exist_ok=True)
    with naming(root), tempfile.TemporaryDirectory(prefix=f".{root.name}.", dir=root.parent) as outer:
        folder = Path(outer) / "data"  # other users can read it, unlike the folder around it
        for stream, (split, count) in enumerate(dict(train=num_train, test=num_test).items()):
            for kind in classes:
                (folder / split / kind).mkdir(parents=True)
            lines = []
            for number in range(count):
                label = number % len(classes)
                file = f"{split}/{classes[label]}/{number:05d}{ending}"
                write(folder / file, classes[label], np.random.default_rng([seed, stream, number]))
                lines.append(f"{file} {label}\n")
            (folder / f"{split}.txt").write_text("".join(lines))
            if split == "train":
                (folder / "labelled.txt").write_text("".join(lines[:num_labelled]))
        (folder / "metadata.json").write_text(metadata)
        move_into_place(folder, root)
    return root

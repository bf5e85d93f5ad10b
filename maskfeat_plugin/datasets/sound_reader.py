"""Reader of sound files."""

import io
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from maskfeat_plugin.errors import ConfigError, reading

# The size in a RIFF header of a file that was written as a stream
_UNKNOWN = (0, 0xFFFFFFFF)
# An mp3 without a table has only an estimated duration
_ESTIMATED = ("mp3",)
_TOLERANCE = 0.1  # seconds
_NO_SOUND = "is no sound file, or a broken one"


def read_sound(content: bytes, name: str, sample_rate: int, max_seconds: float) -> np.ndarray:
    """Decode a sound with FFmpeg, resample it, and compute the mean of its channels.

    Args:
        content (bytes): The file: WAV, FLAC, Ogg, MP3, M4A, or another format that FFmpeg reads.
        name (str): The name of the file in messages.
        sample_rate (int): Samples per second of the result.
        max_seconds (float): The longest sound that is read.

    Returns:
        np.ndarray: float32 (L,). A 16-bit file of one channel has values in [-1, 1).

    Raises:
        ConfigError: If the file has no sound, does not decode, is cut short, or is longer than ``max_seconds``.
    """
    if content[:4] == b"RIFF" and (size := int.from_bytes(content[4:8], "little")) not in _UNKNOWN:
        # FFmpeg reads the rest of a WAV file without an error
        if size + 8 > len(content):
            raise ConfigError(f"{name} is cut short: it has {len(content)} of {size + 8} bytes.")
    with reading(name, _NO_SOUND):
        return _decode(content, name, sample_rate, max_seconds)


def check_sound(path: Path, name: str) -> None:
    """Check that a file has a sound. No sample is decoded.

    Args:
        path (Path): The file.
        name (str): Its name in messages.

    Raises:
        ConfigError: If the file is no sound file or has no sound.
    """
    with reading(name, _NO_SOUND), open(path, "rb") as file, av.open(file) as container:
        _check_streams(container, name)


def _check_streams(container: InputContainer, name: str) -> None:
    if not container.streams.audio:
        raise ConfigError(f"{name} holds no sound.")


def _decode(content: bytes, name: str, sample_rate: int, max_seconds: float) -> np.ndarray:
    parts = []
    seconds = 0.0
    with av.open(io.BytesIO(content)) as container:
        _check_streams(container, name)
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", rate=sample_rate)
        for frame in chain(container.decode(stream), [None]):  # None returns the buffered samples
            seconds += frame.samples / frame.sample_rate if frame else 0.0
            if seconds > max_seconds:
                raise ConfigError(f"{name} is longer than max_seconds={max_seconds:g}. Cut it into shorter files.")
            parts += [part.to_ndarray().mean(axis=0) for part in resampler.resample(frame)]
        expected = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if container.format.name not in _ESTIMATED and seconds < expected - _TOLERANCE:
            raise ConfigError(f"{name} is cut short: it has {seconds:.2f} of {expected:.2f} seconds.")
    if not parts:
        raise ConfigError(f"{name} holds no sound.")
    return np.concatenate(parts)

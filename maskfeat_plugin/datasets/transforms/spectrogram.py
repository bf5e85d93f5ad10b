"""Transform that reads sounds as images."""

from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine import fileio

from maskfeat_plugin.registry import TRANSFORMS

from ..sound_reader import read_sound


@TRANSFORMS.register_module()
class LoadSpectrogram(BaseTransform):
    """Transform that reads a sound file as a log-mel spectrogram: an image with one channel.

    A row is a mel band, low bands first. A column is a window of time. Crop or pad the columns to a fixed number with
    ``mmpretrain.RandomCrop`` or ``CenterCrop``; 0 is silence. Values are decibels, scaled to 0 to 255. A sine of full
    scale has 0 dB in a wide band, which holds all of it.

    Required key: ``img_path``. Added keys: ``img``, uint8 (num_mels, W, 1), where W is 1 + (samples - window) // hop;
    ``img_shape``, ``ori_shape``.

    Args:
        sample_rate (int): Samples per second, to which sounds are resampled. Defaults to 16000.
        num_mels (int): Number of mel bands, triangles between 0 and half of ``sample_rate``. Defaults to 128.
        window (int): Samples of a window (Hann). Shorter sounds are padded with silence. Defaults to 400, 25 ms.
        hop (int): Samples between the starts of two windows. Defaults to 160, 10 ms.
        fft_size (int): Samples of the Fourier transform; windows are padded with zeros. Defaults to 1024.
        decibels (Sequence[float]): The values that become 0 and 255. Defaults to (-100, 0).
        max_seconds (float): The longest sound that is read. Defaults to 600.
        backend_args (dict, optional): Arguments of mmengine's file backend. Defaults to None: from the path.

    Raises:
        ValueError: If an argument is out of range, or a mel band has no frequency of the Fourier transform.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        num_mels: int = 128,
        window: int = 400,
        hop: int = 160,
        fft_size: int = 1024,
        decibels: Sequence[float] = (-100.0, 0.0),
        max_seconds: float = 600.0,
        backend_args: dict | None = None,
    ) -> None:
        numbers = dict(sample_rate=sample_rate, num_mels=num_mels, window=window, hop=hop, fft_size=fft_size)
        for name, value in numbers.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"LoadSpectrogram: {name} must be a positive integer, got {value!r}.")
        if window > fft_size:
            raise ValueError(f"LoadSpectrogram: window={window} must not be larger than fft_size={fft_size}.")
        if len(decibels) != 2 or not decibels[0] < decibels[1]:
            raise ValueError(f"LoadSpectrogram: decibels={decibels!r} must be two ascending numbers.")
        if not max_seconds > 0:
            raise ValueError(f"LoadSpectrogram: max_seconds={max_seconds!r} must be positive.")
        self.sample_rate = sample_rate
        self.num_mels = num_mels
        self.window = window
        self.hop = hop
        self.fft_size = fft_size
        self.decibels = tuple(decibels)
        self.max_seconds = max_seconds
        self.backend_args = backend_args
        self._filters = mel_filters(num_mels, fft_size, sample_rate)
        empty = int((self._filters.max(axis=1) == 0).sum())
        if empty:
            raise ValueError(
                f"LoadSpectrogram: {empty} of num_mels={num_mels} bands have no frequency. Raise fft_size={fft_size} "
                "or lower num_mels."
            )
        hann = np.hanning(window + 1)[:-1]
        # The power of a sine of full scale is 1 then, as a sum over the frequencies
        self._hann = (hann * 2 / np.sqrt(fft_size * (hann**2).sum())).astype(np.float32)

    def transform(self, results: dict) -> dict:
        """Read the sound and compute its spectrogram.

        Args:
            results (dict): The sample.

        Returns:
            dict: The sample with the image.

        Raises:
            ValueError: If the file is no sound, or is damaged, cut short or too long.
            StorageError: If the storage of the file cannot be used.
        """
        path = results["img_path"]
        content = fileio.get(path, backend_args=self.backend_args)
        image = self.spectrogram(read_sound(content, str(path), self.sample_rate, self.max_seconds))
        return dict(results, img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])

    def spectrogram(self, samples: np.ndarray) -> np.ndarray:
        """Compute the spectrogram of samples.

        Args:
            samples (np.ndarray): float (L,) in [-1, 1].

        Returns:
            np.ndarray: uint8 (num_mels, W, 1).
        """
        samples = np.pad(samples.astype(np.float32), (0, max(0, self.window - len(samples))))
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.hop] * self._hann  # (W, n)
        power = np.abs(np.fft.rfft(windows, self.fft_size)) ** 2  # (W, F)
        low, high = self.decibels
        loudness = 10 * np.log10(np.maximum(self._filters @ power.T, 10 ** (low / 10)))  # (mels, W)
        return np.clip((loudness - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)[..., None]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(sample_rate={self.sample_rate}, num_mels={self.num_mels}, window={self.window}, "
            f"hop={self.hop}, fft_size={self.fft_size}, decibels={self.decibels}, max_seconds={self.max_seconds:g})"
        )


def mel_filters(num_mels: int, fft_size: int, sample_rate: int) -> np.ndarray:
    """Compute triangular filters with centres at equal distances on the mel scale, 2595 log10(1 + f / 700 Hz).

    Args:
        num_mels (int): Number of filters.
        fft_size (int): Samples of the Fourier transform.
        sample_rate (int): Samples per second.

    Returns:
        np.ndarray: float32 (num_mels, fft_size // 2 + 1); the peak of a triangle is 1.
    """
    frequencies = np.arange(fft_size // 2 + 1) * sample_rate / fft_size
    mels = np.linspace(0, 2595 * np.log10(1 + sample_rate / 2 / 700), num_mels + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)

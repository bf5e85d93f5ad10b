"""Transform that decodes with torchcodec, on a GPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import TRANSFORMS
from maskfeat_plugin.storage import RemoteFile

from ..video_reader import VideoReader
from .decoding import OpenVideo


class TorchCodecReader(VideoReader):
    """:class:`VideoReader` that decodes with torchcodec: the same frame numbers and, on a CPU, the same frames.

    Args:
        source (str | bytes): Path of the file, or its content.
        name (str): The name of the file in messages.
        device (str): The device that decodes, as torch names it. Defaults to "cuda".

    Raises:
        ConfigError: If torchcodec is missing, or FFmpeg's libraries that it needs.
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is no video, or torchcodec does not open it.
    """

    def __init__(self, source: str | bytes, name: str, device: str = "cuda") -> None:
        super().__init__(source, name)
        decoder = _import_decoder()
        self._file = name
        try:
            self._decoder = decoder(source, device=device)
        except RuntimeError as error:
            raise ValueError(f"{name} is not opened by torchcodec: {_first_line(error)}") from error

    def read(self, indices: Sequence[int], short_side: int | None = None) -> list[np.ndarray]:
        """Decode frames, see :meth:`VideoReader.read`. They are resized on the device, before the copy to the CPU.

        Args:
            indices (Sequence[int]): Frame numbers in any order.
            short_side (int, optional): Pixels of the shorter side of the result. Defaults to None: the size in the
                file.

        Returns:
            list[np.ndarray]: One uint8 (H, W, 3) RGB array per number. No two arrays share memory.

        Raises:
            ValueError: If a frame does not exist, or if it does not decode.
        """
        try:
            frames = self._decoder.get_frames_at([int(index) for index in indices]).data  # (N, 3, H, W)
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"{self._file} is not decoded by torchcodec: {_first_line(error)}") from error
        if short_side is not None:
            scale = short_side / min(frames.shape[2:])
            size = [round(side * scale) for side in frames.shape[2:]]
            frames = interpolate(frames.float(), size, mode="bilinear", antialias=True).round().clamp(0, 255).byte()
        return [image.copy() for image in frames.permute(0, 2, 3, 1).cpu().numpy()]


@TRANSFORMS.register_module()
class OpenVideoByTorchCodec(OpenVideo):
    """Transform that opens a video file so that ``maskfeat.DecodeClip`` decodes it with torchcodec.

    Use it instead of ``OpenVideo``.

    Installing this package does not install torchcodec. It needs ``pip install torchcodec``, in the release for the
    installed torch, and FFmpeg's shared libraries. On a GPU the workers of the dataloader have to be spawned
    (``train_dataloader.multiprocessing_context="spawn"``), because CUDA does not work after a fork.

    Keys are as for :class:`OpenVideo`.

    Args:
        device (str): The device that decodes, as torch names it. Defaults to "cuda".
        io_backend (str): See :class:`OpenVideo`. Defaults to "disk".
        **kwargs: Further arguments of :class:`OpenVideo`.

    Raises:
        ConfigError: If torchcodec or a library that it needs is missing, or if there is no such device.
    """

    def __init__(self, device: str = "cuda", io_backend: str = "disk", **kwargs: Any) -> None:
        super().__init__(io_backend, **kwargs)
        _import_decoder()
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                f"OpenVideoByTorchCodec: device={device!r}, but there is no GPU. Use maskfeat.OpenVideo, which decodes "
                "on the CPU."
            )
        self.device = device

    def _get_video_reader(self, filename: str) -> TorchCodecReader:
        source, name = self._source_of(filename)
        return TorchCodecReader(source.readall() if isinstance(source, RemoteFile) else source, name, self.device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(device={self.device!r}, io_backend={self.io_backend!r})"


def _import_decoder() -> type:
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: FFmpeg's libraries are missing
        raise ConfigError(
            f"OpenVideoByTorchCodec: torchcodec cannot be imported ({_first_line(error)}). Run pip install torchcodec "
            "in the release for this torch, install FFmpeg's shared libraries, or use maskfeat.OpenVideo."
        ) from error
    return VideoDecoder


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

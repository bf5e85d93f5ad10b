"""Conversion of arrays, tensors and PIL images from users to the arrays that a pipeline takes."""

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image, ImageOps

from maskfeat_plugin.errors import ConfigError

from .input_kinds import IMAGES, VIDEOS, InputKind

GIVEN = (np.ndarray, torch.Tensor, Image.Image)
"""Types of inputs that are not files."""


def sample_bits(cfg: Config) -> int:
    """Return the bits of the pixels that a config's data preprocessor expects: 16 if its mean or std exceeds 255.

    Args:
        cfg (Config): The config.

    Returns:
        int: 8 or 16.
    """
    preprocessor = cfg.model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}
    values = [preprocessor.get(key) for key in ("mean", "std")]
    return 16 if any(np.max(value) > 255 for value in values if value is not None) else 8


def to_array(
    given: np.ndarray | torch.Tensor | Image.Image, name: str, kind: InputKind, title: str, channels: int, bits: int
) -> np.ndarray:
    """Convert an input that is not a file to the array that a pipeline takes.

    As with files, grey images are repeated to three channels and the alpha channel is dropped, if the model takes three
    channels. A PIL image is rotated by its EXIF data, as files are. Floating point numbers must be from 0 to 1. If the
    model takes 8 bits, the upper 8 of 16 bits are used.

    Args:
        given (np.ndarray | Tensor | Image): An array (H, W, C) or (T, H, W, C), for grey also without C; a tensor of
            these shapes or of torchvision's, (C, H, W), (T, C, H, W) and (C, T, H, W); a PIL image of any mode.
        name (str): Name of the input, for messages.
        kind (InputKind): Kind of the files that the model takes. The array is a decoded sample: the spectrogram of a
            sound, or the slices of a volume.
        title (str): Name of the config, for messages.
        channels (int): Channels that the model takes, see :func:`.sample_channels`.
        bits (int): Bits of the pixels that the model takes, see :func:`sample_bits`.

    Returns:
        np.ndarray: uint8 or uint16, (H, W, channels) or (T, H, W, channels).

    Raises:
        ConfigError: If it is a clip instead of an image or the reverse, or its shape, type or range is not supported.
    """
    clips = kind.is_clip
    if isinstance(given, Image.Image):
        array = _read_picture(given, channels)
    elif isinstance(given, torch.Tensor):
        array = _read_tensor(given, name, clips, channels)
    else:
        array = given
    sizes = {channels, 1, 4} if channels == 3 else {channels}
    dims = 4 if clips else 3
    if array.ndim == dims - 1 and channels in (1, 3) and not (clips and array.shape[-1] in sizes):
        array = array[..., None]  # grey
    if array.ndim == (3 if clips else 4) and array.shape[-1] in sizes:
        raise kind.other_kind(f"{name} of the shape {array.shape}", IMAGES if clips else VIDEOS, title)
    is_known = array.dtype in (np.uint8, np.uint16) or array.dtype.kind == "f"
    if not is_known or array.ndim != dims or array.shape[-1] not in sizes or not array.size:
        dtype = "RGB, uint8" if channels == 3 else "uint8"
        wanted = f"(T, H, W, {channels})" if clips else f"(H, W, {channels})"
        raise ConfigError(
            f"{name} is {array.dtype} {array.shape}; an array has to be {dtype} {wanted}, or uint16, or floating point "
            "from 0 to 1."
        )
    if channels == 3:
        array = array.repeat(3, -1) if array.shape[-1] == 1 else array[..., :3]
    return _scale(array, name, bits)


def _read_picture(image: Image.Image, channels: int) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits, which some versions of Pillow read into 32
        array = np.array(image)
        return array.astype(np.uint16) if array.min() >= 0 and array.max() < 1 << 16 else array
    if image.mode != "F" and channels in (1, 3):
        image = image.convert("RGB" if channels == 3 else "L")
    return np.array(image)


def _read_tensor(tensor: torch.Tensor, name: str, clips: bool, channels: int) -> np.ndarray:
    """Return a tensor as an array, with the channels last if its shape shows where they are."""
    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()  # numpy has no bfloat16
    if array.ndim != (4 if clips else 3):
        return array
    axes = (0, 1, 3) if clips else (0, 2)
    for sizes in ((channels,), (1, 4) if channels == 3 else ()):
        found = [axis for axis in axes if array.shape[axis] in sizes]
        if len(found) > 1:
            raise ConfigError(
                f"{name} of the shape {array.shape}: its channels may be in the dimensions "
                f"{' and '.join(map(str, found))}. Give a numpy array, whose channels are last."
            )
        if found:
            return np.moveaxis(array, found[0], -1)
    return array


def _scale(array: np.ndarray, name: str, bits: int) -> np.ndarray:
    """Convert an array to unsigned integers of the given number of bits."""
    if array.dtype.kind == "f":
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):  # also true for NaN
            raise ConfigError(
                f"{name} has {array.dtype} numbers from {low:g} to {high:g}. Give floating point numbers from 0 to 1, "
                "or uint8."
            )
        return (array.astype(np.float32) * (2**bits - 1) + 0.5).astype(np.uint16 if bits == 16 else np.uint8)
    return (array >> 8).astype(np.uint8) if array.dtype == np.uint16 and bits == 8 else array

"""Transform that opens volumes."""

from collections.abc import Sequence

from mmaction.datasets.transforms import DecordInit
from mmengine.fileio import get

from maskfeat_plugin.registry import TRANSFORMS

from ..tar_members import is_member
from ..volume_reader import VolumeReader


@TRANSFORMS.register_module()
class OpenVolume(DecordInit):
    """Transform that opens a volume (.npy) for ``SampleFrames`` and :class:`DecodeClip`. Slices are its frames.

    Use it instead of :class:`OpenVideo`. Only the chosen slices of a file on a disk are read. Pickled objects are
    refused.

    Required keys: ``filename``. Added keys: ``video_reader``, ``total_frames``, ``avg_fps`` (None).

    Args:
        window (Sequence[float], optional): The values that become 0 and 255, for example (-1000, 400) in Hounsfield
            units. Values outside are clipped. Defaults to None, for files of uint8.
        axis (int): The axis of the slices in the file, 0, 1 or 2. Defaults to 0.

    Raises:
        ValueError: If ``window`` is not two ascending numbers, or ``axis`` is out of range.
    """

    def __init__(self, window: Sequence[float] | None = None, axis: int = 0) -> None:
        super().__init__()
        if window is not None and (len(window) != 2 or not window[0] < window[1]):
            raise ValueError(f"OpenVolume: window={window!r} must be two ascending numbers, or None.")
        if axis not in (0, 1, 2):
            raise ValueError(f"OpenVolume: axis={axis!r} must be 0, 1 or 2.")
        self.window = None if window is None else (float(window[0]), float(window[1]))
        self.axis = axis

    def _get_video_reader(self, filename: str) -> VolumeReader:
        source = get(filename) if is_member(filename) or "://" in filename else filename
        return VolumeReader(source, filename, self.window, self.axis)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(window={self.window}, axis={self.axis})"

"""Decoding of clips."""

from collections.abc import Sequence
from os.path import splitext

from mmaction.datasets.transforms import DecordDecode, DecordInit
from mmengine.fileio import FileClient

from maskfeat_plugin.registry import TRANSFORMS

from ..video_reader import ConstantRateReader, VideoReader


@TRANSFORMS.register_module()
class OpenVideo(DecordInit):
    """Opens a video file for :class:`DecodeClip`, without decoding; stands where ``mmaction.DecordInit`` does.

    Required keys: ``filename``. Added keys: ``video_reader``, ``total_frames``, ``avg_fps``.

    Frames that the file's edit list leaves out are not counted: decord counts them, and shows others in their place.
    Where frames have different lengths (a variable rate, as of phones and screen recordings), their numbers count equal
    steps of time, so that a clip shows what happened at its pace; decord counts pictures.

    Args:
        io_backend (str): Where the files are, as mmengine's ``FileClient`` names it; those on "disk" are read in place,
            others fetched into memory. Defaults to "disk".
        num_threads (int): Accepted as ``mmaction.DecordInit`` does; one thread decodes a file here. Defaults to 1.
        **kwargs: Arguments of the ``FileClient``.
    """

    file_client: FileClient | None

    def __init__(self, io_backend: str = "disk", num_threads: int = 1, **kwargs: object) -> None:
        super().__init__(io_backend, num_threads, **kwargs)

    def open_file(self, filename: str) -> VideoReader:
        """Open a file whose frames are numbered as they come, also at a variable rate.

        Args:
            filename (str): The file.
        """
        return VideoReader(*self._source_of(filename))

    def _get_video_reader(self, filename: str) -> VideoReader | ConstantRateReader:
        reader = self.open_file(filename)
        return ConstantRateReader(reader) if reader.has_variable_rate() else reader

    def _source_of(self, filename: str) -> tuple[str | bytes, str]:
        """Return the path of a file, or its content, and its name."""
        if not splitext(filename)[1]:
            filename += ".mp4"
        if self.io_backend == "disk":
            return filename, filename
        if self.file_client is None:
            self.file_client = FileClient(self.io_backend, **self.kwargs)
        return bytes(self.file_client.get(filename)), filename

    def __repr__(self) -> str:
        return f"{type(self).__name__}(io_backend={self.io_backend!r})"


@TRANSFORMS.register_module()
class DecodeClip(DecordDecode):
    """Decodes the chosen frames and no more than they need; stands where ``mmaction.DecordDecode`` does.

    The frames are those of decord, bit for bit where pixels are of 8 bits and height and width even; elsewhere the
    colours next to sharp edges differ, because swscale changed. Frames are turned as the file says, as decord does.

    Required keys: ``video_reader`` of :class:`OpenVideo`, ``frame_inds``. Added keys: ``imgs``, a list of uint8 (H, W,
    3); ``original_shape``, ``img_shape``; ``gt_bboxes`` and ``proposals``, where there are any, become pixels.

    Args:
        mode (str): "accurate", the chosen frames themselves. Defaults to "accurate".
        short_side (int, optional): Pixels of the shorter side of the frames. Resizing is a part of the conversion of
            colours, bilinear and antialiased, so that it costs less than a ``Resize`` of its own. The authors' code
            decodes with 256. Defaults to None: the size of the file.

    Raises:
        ValueError: If ``mode`` is another, or ``short_side`` is not a positive integer.
    """

    def __init__(self, mode: str = "accurate", short_side: int | None = None) -> None:
        if mode != "accurate":
            raise ValueError(
                f"DecodeClip: mode={mode!r} is not supported, it decodes the chosen frames. Leave it out, or use "
                "mmaction.DecordInit and mmaction.DecordDecode for key frames near them (mode='efficient')."
            )
        super().__init__(mode)
        if short_side is not None and not (isinstance(short_side, int) and short_side > 0):
            raise ValueError(f"DecodeClip: short_side={short_side!r} must be a positive integer, or None.")
        self.short_side = short_side

    def _decord_load_frames(self, container: VideoReader | ConstantRateReader, frame_inds: Sequence[int]) -> list:
        return container.read(frame_inds, self.short_side)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(short_side={self.short_side})"

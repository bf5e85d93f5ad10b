"""Transforms that open and decode videos."""

from collections.abc import Sequence
from os.path import splitext

from mmaction.datasets.transforms import DecordDecode, DecordInit
from mmengine.fileio import FileClient, get, get_file_backend

from maskfeat_plugin.registry import TRANSFORMS
from maskfeat_plugin.storage import FsspecBackend, RemoteFile

from ..tar_members import is_member
from ..video_reader import ConstantRateReader, VideoReader


@TRANSFORMS.register_module()
class OpenVideo(DecordInit):
    """Transform that opens a video file for :class:`DecodeClip`, without decoding it.

    Use it instead of ``mmaction.DecordInit``.

    Required keys: ``filename``. Added keys: ``video_reader``, ``total_frames``, ``avg_fps``.

    Frames that the file's edit list leaves out are not counted. decord counts them, and shows other frames instead. If
    frames have different lengths (a variable rate, as in videos of phones and screen recordings), frame numbers here
    count equal steps of time, so a clip has the true speed. decord counts pictures.

    Args:
        io_backend (str): The storage of the files, as mmengine's ``FileClient`` names it. Files on "disk" are read
            directly. With "fsspec", and from addresses that begin with ``s3://``, ``gs://`` or ``hf://``, only the
            needed parts of a file are fetched. Members of tar shards need no setting. Other files are fetched into
            memory. Defaults to "disk".
        num_threads (int): Accepted for compatibility with ``mmaction.DecordInit``. One thread decodes a file here.
            Defaults to 1.
        **kwargs: Arguments of the ``FileClient``.
    """

    file_client: FileClient | None

    def __init__(self, io_backend: str = "disk", num_threads: int = 1, **kwargs: object) -> None:
        super().__init__(io_backend, num_threads, **kwargs)

    def open_file(self, filename: str) -> VideoReader:
        """Open a file whose frames are numbered in their order, also with a variable rate.

        Args:
            filename (str): The file.
        """
        return VideoReader(*self._source_of(filename))

    def _get_video_reader(self, filename: str) -> VideoReader | ConstantRateReader:
        reader = self.open_file(filename)
        return ConstantRateReader(reader) if reader.has_variable_rate() else reader

    def _source_of(self, filename: str) -> tuple[str | bytes | RemoteFile, str]:
        """Return the path of a file, its content or the file in a storage, and the name of the file."""
        if is_member(filename):
            return get(filename), filename
        if not splitext(filename)[1]:
            filename += ".mp4"
        if self.io_backend == "disk":
            is_remote = "://" in filename and isinstance(backend := get_file_backend(filename), FsspecBackend)
            return backend.open(filename) if is_remote else filename, filename
        if self.file_client is None:
            self.file_client = FileClient(self.io_backend, **self.kwargs)
        if isinstance(self.file_client.client, FsspecBackend):
            return self.file_client.client.open(filename), filename
        return bytes(self.file_client.get(filename)), filename

    def __repr__(self) -> str:
        return f"{type(self).__name__}(io_backend={self.io_backend!r})"


@TRANSFORMS.register_module()
class DecodeClip(DecordDecode):
    """Transform that decodes the chosen frames, and other frames only if the chosen ones need them.

    Use it instead of ``mmaction.DecordDecode``. The frames equal decord's frames bit for bit if pixels have 8 bits and
    height and width are even. Otherwise the colours next to sharp edges differ, because swscale has changed. Frames are
    rotated as the file says, as in decord.

    Required keys: ``video_reader`` of :class:`OpenVideo`, ``frame_inds``. Added keys: ``imgs``, a list of uint8 (H, W,
    3); ``original_shape``, ``img_shape``. ``gt_bboxes`` and ``proposals``, if present, are converted to pixels.

    Args:
        mode (str): "accurate", exactly the chosen frames. Defaults to "accurate".
        short_side (int, optional): Pixels of the shorter side of the frames. Frames are resized together with the
            conversion of their colours, bilinear and antialiased, which costs less than a separate ``Resize``. The
            authors' code decodes with 256. Defaults to None: the size in the file.

    Raises:
        ValueError: If ``mode`` is another one, or if ``short_side`` is not a positive integer.
    """

    def __init__(self, mode: str = "accurate", short_side: int | None = None) -> None:
        if mode != "accurate":
            raise ValueError(
                f"DecodeClip: mode={mode!r} is not supported, because DecodeClip decodes the chosen frames. Leave mode "
                "out, or use mmaction.DecordInit and mmaction.DecordDecode for nearby key frames (mode='efficient')."
            )
        super().__init__(mode)
        if short_side is not None and not (isinstance(short_side, int) and short_side > 0):
            raise ValueError(f"DecodeClip: short_side={short_side!r} must be a positive integer, or None.")
        self.short_side = short_side

    def _decord_load_frames(self, container: VideoReader | ConstantRateReader, frame_inds: Sequence[int]) -> list:
        return container.read(frame_inds, self.short_side)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(short_side={self.short_side})"

"""The file or folder that a sample is read from."""

from collections.abc import Mapping

# Names that the data sets of mmpretrain, mmaction2 and mmdet use
_PATHS = ("img_path", "filename", "video_path", "frame_dir", "file_name")


def sample_path(sample: Mapping[str, object]) -> str | None:
    """Find the path of a sample.

    Args:
        sample (Mapping[str, object]): What a data set or a transform knows of it, such as ``get_data_info`` gives.

    Returns:
        str | None: The path of its file, or of its folder of frames; None if it has none.
    """
    return next((str(sample[name]) for name in _PATHS if sample.get(name)), None)

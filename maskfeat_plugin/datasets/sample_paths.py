"""Path of the file or folder from which a sample is read."""

from collections.abc import Mapping

# Keys that the data sets of mmpretrain, mmaction2 and mmdet use for paths
_PATHS = ("img_path", "filename", "video_path", "frame_dir", "file_name")


def sample_path(sample: Mapping[str, object]) -> str | None:
    """Find the path of a sample.

    Args:
        sample (Mapping[str, object]): The data of a sample, for example the result of ``get_data_info``.

    Returns:
        str | None: The path of its file or of its folder of frames; None if it has none.
    """
    return next((str(sample[name]) for name in _PATHS if sample.get(name)), None)

"""AVA-style data: mmaction2's data set, with proposals that need no pickle file."""

from collections.abc import Callable

from mmaction.datasets import AVADataset as _AVADataset

from maskfeat_plugin.registry import DATASETS

from .ava_tables import check_annotations, check_exclusions, plain_copies, read_proposals, read_table

GROUND_TRUTH = "ground_truth"


@DATASETS.register_module()
class AVADataset(_AVADataset):
    """``mmaction.AVADataset`` whose proposals come from a text table or from the annotated boxes themselves.

    It reads raw frames or, with ``use_frames=False, start_index=0``, video files. ``data_prefix.img`` is the folder of
    the frames or videos. The first column of the annotations is the name of the frames' folder or of the video file.

    Tables are read as CSV: a byte order mark, Windows line ends, blank lines, quotes and spaces around a column make no
    difference. mmaction2 treats them as a part of the name.

    With video files, ``fps=None`` uses the frame rate of each file, which :class:`OpenVideo` reads. Otherwise ``fps``
    is the frame rate of all files.

    Args:
        ann_file (str): Annotations in AVA's form, one row per action: video, timestamp in seconds, x1, y1, x2, y2 as
            fractions of the frame, action (counted from 1), person.
        pipeline (list[dict | Callable]): The transforms.
        exclude_file (str, optional): Timestamps to leave out, one row each: video, timestamp. Defaults to None.
        label_file (str, optional): AVA's label map, which ``custom_classes`` needs. Defaults to None.
        filename_tmpl (str): Name of a raw frame. Defaults to "img_{:05}.jpg".
        start_index (int): Number of the first raw frame; 0 for video files. Defaults to 1.
        proposal_file (str, optional): The source of the proposals. "ground_truth" or None: the annotated boxes. A
            ``.csv`` file: rows of AVA's detection results, which are video, timestamp, x1, y1, x2, y2, action or
            nothing, score. A ``.pkl`` file: as for ``mmaction.AVADataset``; read only a file from a source that you
            trust, because a pickle file can run code. Defaults to "ground_truth".
        *args: Further arguments of ``mmaction.AVADataset``, in the same order.
        **kwargs: Further arguments of ``mmaction.AVADataset``.

    Raises:
        ValueError: With the line of ``ann_file``, ``exclude_file`` or ``proposal_file`` that has another form, whose
            box is not within the frame or whose action is not below ``num_classes``. Also if ``custom_classes`` has no
            ``label_file``, or if ``fps`` is None with raw frames.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: list[dict | Callable],
        exclude_file: str | None = None,
        label_file: str | None = None,
        filename_tmpl: str = "img_{:05}.jpg",
        start_index: int = 1,
        proposal_file: str | None = GROUND_TRUTH,
        *args: object,
        **kwargs: object,
    ) -> None:
        table = proposal_file if proposal_file and proposal_file.endswith(".csv") else None
        self._at_ground_truth = proposal_file in (None, GROUND_TRUTH)
        if kwargs.get("custom_classes") and not label_file:
            raise ValueError("AVADataset: custom_classes needs label_file. Set it to AVA's label map (.pbtxt).")
        if kwargs.get("fps", 30) is None and kwargs.get("use_frames", True):
            raise ValueError("AVADataset: fps=None works with video files only. Set fps to the rate of the frames.")
        upstream = None if table or self._at_ground_truth else proposal_file
        settings = (exclude_file, label_file, filename_tmpl, start_index, upstream)
        super().__init__(ann_file, pipeline, *settings, *args, **kwargs)
        if table:
            self.proposals = read_proposals(table)

    def load_data_list(self) -> list[dict]:
        """Read the annotations. With ``custom_classes``, actions with other numbers are ignored."""
        classes = None if self.custom_classes else self.num_classes
        check_annotations(read_table(self.ann_file, "ann_file"), self.ann_file, classes)
        with plain_copies(self, "ann_file"):
            return super().load_data_list()

    def filter_data(self) -> list[dict]:
        """Remove the excluded timestamps."""
        if self.exclude_file:
            check_exclusions(read_table(self.exclude_file, "exclude_file"), self.exclude_file)
        with plain_copies(self, "exclude_file"):
            return super().filter_data()

    def get_data_info(self, idx: int) -> dict:
        """Return a sample with its proposals."""
        info = super().get_data_info(idx)
        if self._at_ground_truth:
            info["proposals"] = info["gt_bboxes"].copy()
        return info

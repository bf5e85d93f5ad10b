"""AVA-style data: mmaction2's data set, with proposals that need no pickle."""

from collections.abc import Callable

from mmaction.datasets import AVADataset as _AVADataset

from maskfeat_plugin.registry import DATASETS

from .ava_tables import check_annotations, check_exclusions, plain_copies, read_proposals, read_table

GROUND_TRUTH = "ground_truth"


@DATASETS.register_module()
class AVADataset(_AVADataset):
    """``mmaction.AVADataset`` whose proposals are a table of text, or the annotated boxes themselves.

    Raw frames or, with ``use_frames=False, start_index=0``, video files: ``data_prefix.img`` is the folder of either,
    and the first column of the annotations the name of the frames' folder or the video's file.

    Tables are read as CSV: a byte order mark, Windows line ends, blank lines, quotes and spaces around a column make no
    difference. Upstream takes them for a part of the name.

    With video files, ``fps=None`` takes the rate of each file, which :class:`OpenVideo` reads; else ``fps`` is that of
    all of them.

    Args:
        ann_file (str): Annotations in AVA's form, a row an action: video, timestamp in seconds, x1, y1, x2, y2 as
            fractions of the frame, action (counted from 1), person.
        pipeline (list[dict | Callable]): Transforms.
        exclude_file (str, optional): Timestamps to leave out, a row each: video, timestamp. Defaults to None.
        label_file (str, optional): AVA's label map, needed by ``custom_classes``. Defaults to None.
        filename_tmpl (str): Name of a raw frame. Defaults to "img_{:05}.jpg".
        start_index (int): Number of the first raw frame; 0 for video files. Defaults to 1.
        proposal_file (str, optional): Where boxes are looked at: "ground_truth" or None, the annotated ones; a ``.csv``
            with the rows of AVA's detection results: video, timestamp, x1, y1, x2, y2, action or nothing, score; or a
            ``.pkl`` as for ``mmaction.AVADataset`` (read it only from who you trust: a pickle runs code). Defaults to
            "ground_truth".
        *args: Further arguments of ``mmaction.AVADataset``, in its order.
        **kwargs: Likewise.

    Raises:
        ValueError: With the line of ``ann_file``, ``exclude_file`` or ``proposal_file`` that has another form, whose
            box leaves the frame or whose action is not below ``num_classes``; if ``custom_classes`` has no
            ``label_file``; if ``fps`` is None with frames.
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
            raise ValueError("AVADataset: custom_classes needs label_file, AVA's label map (.pbtxt); set it.")
        if kwargs.get("fps", 30) is None and kwargs.get("use_frames", True):
            raise ValueError("AVADataset: fps=None takes the rate of video files; set fps to that of the frames.")
        upstream = None if table or self._at_ground_truth else proposal_file
        settings = (exclude_file, label_file, filename_tmpl, start_index, upstream)
        super().__init__(ann_file, pipeline, *settings, *args, **kwargs)
        if table:
            self.proposals = read_proposals(table)

    def load_data_list(self) -> list[dict]:
        """Read the annotations; with ``custom_classes`` actions of other numbers are passed over."""
        classes = None if self.custom_classes else self.num_classes
        check_annotations(read_table(self.ann_file, "ann_file"), self.ann_file, classes)
        with plain_copies(self, "ann_file"):
            return super().load_data_list()

    def filter_data(self) -> list[dict]:
        """Leave out the excluded timestamps."""
        if self.exclude_file:
            check_exclusions(read_table(self.exclude_file, "exclude_file"), self.exclude_file)
        with plain_copies(self, "exclude_file"):
            return super().filter_data()

    def get_data_info(self, idx: int) -> dict:
        """The sample, with its proposals."""
        info = super().get_data_info(idx)
        if self._at_ground_truth:
            info["proposals"] = info["gt_bboxes"].copy()
        return info

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

    Args:
        ann_file (str): Annotations in AVA's form, a row an action: video, timestamp in seconds, x1, y1, x2, y2 as
            fractions of the frame, action (counted from 1), person.
        pipeline (list[dict | Callable]): Transforms.
        proposal_file (str, optional): Where boxes are looked at: "ground_truth", the annotated ones; a ``.csv`` with
            the rows of AVA's detection results: video, timestamp, x1, y1, x2, y2, action or nothing, score; or a
            ``.pkl`` as for ``mmaction.AVADataset`` (read it only from who you trust: a pickle runs code). Defaults to
            "ground_truth".
        num_classes (int): Actions plus one. Defaults to 81.
        **kwargs: Everything else of ``mmaction.AVADataset``.

    Raises:
        ValueError: With the line of ``ann_file``, ``exclude_file`` or ``proposal_file`` that has another form, whose
            box leaves the frame or whose action is not below ``num_classes``.
    """

    def __init__(
        self,
        ann_file: str,
        pipeline: list[dict | Callable],
        proposal_file: str | None = GROUND_TRUTH,
        num_classes: int = 81,
        **kwargs,
    ) -> None:
        table = proposal_file if proposal_file and proposal_file.endswith(".csv") else None
        self._at_ground_truth = proposal_file in (None, GROUND_TRUTH)
        # with custom_classes actions of other numbers are passed over
        check_annotations(
            read_table(ann_file, "ann_file"), ann_file, None if kwargs.get("custom_classes") else num_classes
        )
        excluded = kwargs.get("exclude_file")
        if excluded:
            check_exclusions(read_table(excluded, "exclude_file"), excluded)
        upstream = None if table or self._at_ground_truth else proposal_file
        super().__init__(ann_file, pipeline, proposal_file=upstream, num_classes=num_classes, **kwargs)
        if table:
            self.proposals = read_proposals(table)

    def load_data_list(self) -> list[dict]:
        """Read the annotations."""
        with plain_copies(self, "ann_file"):
            return super().load_data_list()

    def filter_data(self) -> list[dict]:
        """Leave out the excluded timestamps."""
        with plain_copies(self, "exclude_file"):
            return super().filter_data()

    def get_data_info(self, idx: int) -> dict:
        """The sample, with its proposals."""
        info = super().get_data_info(idx)
        if self._at_ground_truth:
            info["proposals"] = info["gt_bboxes"].copy()
        return info

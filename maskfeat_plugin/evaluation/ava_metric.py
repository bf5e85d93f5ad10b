"""AVA's mean average precision, for data of one's own too."""

import tempfile
from pathlib import Path

from mmaction.evaluation import AVAMetric as _AVAMetric
from mmaction.evaluation import ava_eval, results2csv

from maskfeat_plugin.datasets.ava_tables import check_annotations, plain_copies, read_table
from maskfeat_plugin.registry import METRICS


@METRICS.register_module()
class AVAMetric(_AVAMetric):
    """``mmaction.AVAMetric`` over the actions that the annotations have.

    Upstream's stops with an error of numpy 2 (``np.NAN``) when an action of the label map has no annotation, as is
    common in small data of one's own, and keeps its intermediate file in the current folder. The number is the same.
    Tables are read as :class:`.AVADataset` does.

    Args: those of ``mmaction.AVAMetric``.

    Raises:
        ValueError: If ``ann_file`` has no action at all.
    """

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Mean average precision at IoU 0.5.

        Args:
            results (list[dict]): What ``process`` has kept of each sample.

        Returns:
            dict[str, float]: "overall", and AVA's three groups of actions by their ids.
        """
        rows = read_table(self.ann_file, "ann_file")
        check_annotations(rows, self.ann_file, None)
        present = {int(row.columns[6]) for row in rows}
        asked = self.custom_classes[1:] if self.custom_classes else present
        present &= set(asked)
        if not present:
            raise ValueError(f"AVAMetric: {self.ann_file} has none of the actions that are evaluated.")
        with tempfile.TemporaryDirectory() as folder, plain_copies(self, "ann_file", "exclude_file"):
            found = Path(folder) / "detections.csv"
            results2csv(results, str(found), self.custom_classes)
            return ava_eval(
                str(found),
                self.options[0],
                self.label_file,
                self.ann_file,
                self.exclude_file,
                ignore_empty_frames=True,
                custom_classes=[0, *sorted(present)],
            )

"""Mean average precision of AVA, which also works for a user's own data."""

import tempfile
from pathlib import Path

from mmaction.evaluation import AVAMetric as _AVAMetric
from mmaction.evaluation import ava_eval, results2csv

from maskfeat_plugin.datasets.ava_tables import check_annotations, plain_copies, read_table
from maskfeat_plugin.registry import METRICS


@METRICS.register_module()
class AVAMetric(_AVAMetric):
    """``mmaction.AVAMetric`` that evaluates only actions with annotations.

    The upstream metric fails with numpy 2 (``np.NAN``) if an action of the label map has no annotation, which is common
    in small data sets. It also leaves its intermediate file in the current folder. The result of both metrics is the
    same. Tables are read in the same way as in :class:`.AVADataset`.

    Args: see ``mmaction.AVAMetric``.

    Raises:
        ValueError: If ``ann_file`` has no action at all.
    """

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Compute the mean average precision at IoU 0.5.

        Args:
            results (list[dict]): Results that ``process`` has stored for each sample.

        Returns:
            dict[str, float]: The value for all actions ("overall") and for AVA's three groups of actions, which are
            defined by their ids.
        """
        rows = read_table(self.ann_file, "ann_file")
        check_annotations(rows, self.ann_file, None)
        present = {int(row.columns[6]) for row in rows}
        asked = self.custom_classes[1:] if self.custom_classes else present
        present &= set(asked)
        if not present:
            raise ValueError(
                f"AVAMetric: {self.ann_file} has none of the actions that are evaluated. Check ann_file and "
                "custom_classes."
            )
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

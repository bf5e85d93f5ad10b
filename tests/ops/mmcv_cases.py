"""Random cases for mmcv's operators, and a recording of a compiled mmcv's results for them.

``python tests/ops/mmcv_cases.py`` writes ``tests/data/mmcv_ops.npz``. It needs an mmcv 2.1.0 with compiled ops.
"""

from pathlib import Path

import numpy as np
import torch
from mmcv import ops

RECORDING = Path(__file__).parents[1] / "data" / "mmcv_ops.npz"
COUNT = 200
"""Cases of each op."""


def make_boxes(random, count):
    """Draw boxes (N, 4) that overlap a lot. In a third of the cases corners are integers, so that overlaps repeat."""
    corner = random.rand(count, 2) * 50
    boxes = np.concatenate((corner, corner + random.rand(count, 2) * 30), axis=1)
    if random.rand() < 1 / 3:
        boxes = boxes.round()
    return torch.from_numpy(boxes.astype(np.float32))


def make_scores(random, count):
    """Draw scores (N,) without equal ones, because the compiled operators do not define the order of equal scores."""
    return torch.from_numpy(((random.permutation(count) + 0.5) / max(count, 1)).astype(np.float32))


def make_equal_scores(random, count):
    """Draw scores (N,). In a third of the cases they are tenths, so that many are equal."""
    scores = random.rand(count)
    return torch.from_numpy((scores.round(1) if random.rand() < 1 / 3 else scores).astype(np.float32))


def run_nms(random):
    count = random.randint(0, 60)
    boxes, scores = make_boxes(random, count), make_scores(random, count)
    threshold = float(random.choice([0.3, 0.5, 0.7, random.rand()]))
    dets, kept = ops.nms(boxes, scores, threshold, offset=int(random.randint(2)), max_num=int(random.choice([-1, 5])))
    return dict(dets=dets, kept=kept)


def run_batched_nms(random):
    count = random.randint(1, 60)  # mmcv's own code fails without boxes
    boxes, scores = make_boxes(random, count), make_scores(random, count)
    labels = torch.from_numpy(random.randint(0, 4, count))
    config = dict(type=str(random.choice(["nms", "soft_nms"])), iou_threshold=0.5)
    if random.rand() < 0.5:
        config["split_thr"] = 10  # run each class separately
    dets, kept = ops.batched_nms(boxes, scores, labels, config)
    return dict(dets=dets, kept=kept)


def run_softnms(random):
    count = random.randint(0, 60)
    boxes, scores = make_boxes(random, count), make_equal_scores(random, count)
    options = dict(
        iou_threshold=float(random.choice([0.3, 0.5, random.rand()])),
        sigma=float(random.choice([0.1, 0.5, 1.0])),
        min_score=float(random.choice([0.0, 1e-3, 0.05, 0.3])),
        method=str(random.choice(["naive", "linear", "gaussian"])),
        offset=int(random.randint(2)),
    )
    dets, kept = ops.soft_nms(boxes, scores, **options)
    return dict(dets=dets, kept=kept)


def run_nms_match(random):
    count = random.randint(0, 60)
    boxes, scores = make_boxes(random, count), make_scores(random, count)
    groups = ops.nms_match(torch.cat((boxes, scores[:, None]), dim=1), float(random.choice([0.3, 0.5, random.rand()])))
    members = torch.cat([*groups, torch.zeros(0, dtype=torch.long)])
    return dict(members=members, sizes=torch.tensor([len(group) for group in groups], dtype=torch.long))


def run_roi_align(random):
    height, width, count = random.randint(4, 14), random.randint(4, 14), random.randint(0, 6)
    features = torch.from_numpy(random.randn(2, 2, height, width).astype(np.float32)).requires_grad_()
    indices = torch.from_numpy(random.randint(0, 2, (count, 1)).astype(np.float32))
    boxes = make_boxes(random, count) * 1.2 - 5  # some of them reach beyond the edges
    boxes[:, 2:] += 0.1  # the compiled operator writes -3e38 for a box without area in pool_mode "max"
    out = ops.roi_align(
        features,
        torch.cat((indices, boxes), dim=1),
        (random.randint(1, 5), random.randint(1, 5)),
        float(random.choice([0.0625, 0.25, 0.5])),
        int(random.choice([0, 1, 2, 3])),
        str(random.choice(["avg", "avg", "max"])),
        bool(random.randint(2)),
    )
    out.backward(torch.from_numpy(random.randn(*out.shape).astype(np.float32)))
    return dict(out=out.detach(), grad=features.grad)


RUNS = {
    "nms": run_nms,
    "batched_nms": run_batched_nms,
    "softnms": run_softnms,
    "nms_match": run_nms_match,
    "roi_align": run_roi_align,
}
"""Op -> function of a ``RandomState`` that runs a random case and returns the results by name."""


def record(path=RECORDING):
    """Run all cases and write the results, concatenated for all cases of an operator."""
    arrays = {}
    for op, run in RUNS.items():
        results = [run(np.random.RandomState(seed)) for seed in range(COUNT)]
        for name in results[0]:
            values = [result[name].numpy() for result in results]
            arrays[f"{op}.{name}"] = np.concatenate([value.ravel() for value in values])
            arrays[f"{op}.{name}.sizes"] = np.array([value.size for value in values])
    np.savez_compressed(path, **arrays)


def read(op, path=RECORDING):
    """Return the recorded results of an operator: case name -> flat array."""
    with np.load(path) as file:
        names = [key.split(".")[1] for key in file if key.startswith(f"{op}.") and key.endswith(".sizes")]
        parts = {name: np.split(file[f"{op}.{name}"], np.cumsum(file[f"{op}.{name}.sizes"])[:-1]) for name in names}
    return [{name: parts[name][i] for name in names} for i in range(COUNT)]


if __name__ == "__main__":
    record()

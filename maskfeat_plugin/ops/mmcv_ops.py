"""mmcv's operators without a compiled extension, computed with torch and torchvision.

``mmcv.ops`` calls a compiled module, ``mmcv._ext``, which mmcv-lite lacks. This file replaces that module on a CPU and
on a GPU: the distribution in ``projects/mmcv_ops`` installs it as ``mmcv/_ext.py``. If that distribution is not
installed, :mod:`maskfeat_plugin.compat` provides it. So this file imports only torch and torchvision. Python prefers a
compiled ``_ext`` in the same folder, so this file never hides one.

The operators are NMS, soft NMS, NMS match, RoIAlign, RoIPool, sigmoid and softmax focal loss. Names, arguments and
results are the same as in mmcv 2.1.0 (``mmcv/ops/csrc/pytorch/pybind.cpp``): most functions write into tensors that the
caller passes. All other operators exist too, but raise a ``NotImplementedError`` when they are called.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torchvision  # noqa: F401, registers torch.ops.torchvision
from torch import Tensor

OPERATORS = (
    "nms",
    "softnms",
    "nms_match",
    "roi_align_forward",
    "roi_align_backward",
    "roi_pool_forward",
    "roi_pool_backward",
    "sigmoid_focal_loss_forward",
    "sigmoid_focal_loss_backward",
    "softmax_focal_loss_forward",
    "softmax_focal_loss_backward",
)
"""The operators that are implemented."""

_TINY = torch.finfo(torch.float32).tiny


def __getattr__(name: str) -> Callable:
    """Return a function that raises, for a missing operator: ``mmcv.ops`` asks for all names when it is imported."""
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def missing(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(
            f"mmcv's operator {name}: it needs an mmcv with compiled operators, and this one has none. Build mmcv from "
            "source (MMCV_WITH_OPS=1 pip install --no-build-isolation --no-binary mmcv mmcv==2.1.0); "
            "docs/installation.md says how."
        )

    return missing


def get_compiler_version() -> str:
    """Return the compiler of the operators, for ``collect_env`` of the frameworks."""
    return f"none, operators of torchvision {torchvision.__version__}"


def get_compiling_cuda_version() -> str:
    """Return the CUDA version that torchvision's operators were compiled with, in mmcv's words."""
    number = torch.ops.torchvision._cuda_version()  # 13000 for 13.0, -1 for none
    return "not available" if number < 0 else f"{number // 1000}.{number % 1000 // 10}"


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the boxes that non-maximum suppression keeps, best score first.

    Args:
        boxes (Tensor): (N, 4), x1, y1, x2, y2.
        scores (Tensor): (N,).
        iou_threshold (float): Boxes are suppressed if they overlap a better box by more than this.
        offset (int): 0 or 1; the width of a box is x2 - x1 + offset.

    Returns:
        Tensor: (M,), int64.
    """
    boxes, scores = _at_least_float(boxes), _at_least_float(scores)
    if offset:
        boxes = torch.cat((boxes[:, :2], boxes[:, 2:] + offset), dim=1)
    return torch.ops.torchvision.nms(boxes, scores, _as_float32(iou_threshold))


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap better boxes (soft NMS, Bodla et al., ICCV 2017).

    Args:
        boxes (Tensor): (N, 4), x1, y1, x2, y2.
        scores (Tensor): (N,).
        dets (Tensor): (N, 5); the remaining boxes and their new scores are written into its first rows.
        iou_threshold (float): Smallest overlap at which scores are lowered (methods 0 and 1).
        sigma (float): Width of the Gaussian (method 2).
        min_score (float): Boxes with a lower score are dropped.
        method (int): How scores are lowered: 0 sets them to zero, 1 is linear, 2 is a Gaussian.
        offset (int): 0 or 1; the width of a box is x2 - x1 + offset.

    Returns:
        Tensor: (M,), int64, the indices of the remaining boxes, best new score first.
    """
    rest, scores = torch.arange(len(boxes), device=boxes.device), scores.clone()
    areas = _areas(boxes, offset)
    order: list[Tensor] = []
    while len(rest):
        candidates = scores[rest]
        # the overlap of two boxes without area is NaN; mmcv takes a NaN at the front and ignores any other NaN
        best = 0 if candidates[0].isnan() else int(candidates.nan_to_num(nan=float("-inf")).argmax())
        # swap the best with the first, so that equal scores keep mmcv's order
        rest[[0, best]] = rest[[best, 0]]
        chosen, rest = rest[0], rest[1:]
        dets[len(order), :4], dets[len(order), 4] = boxes[chosen], scores[chosen]
        order.append(chosen)
        overlaps = _overlaps(boxes, areas, chosen, rest, offset)
        if method == 2:
            weights = torch.exp(-(overlaps**2) / sigma)
        else:
            lowered = 1 - overlaps if method == 1 else torch.zeros_like(overlaps)
            weights = torch.where(overlaps >= _as_float32(iou_threshold), lowered, torch.ones_like(overlaps))
        scores[rest] *= weights
        rest = _drop(rest, scores[rest] < _as_float32(min_score))
    return torch.stack(order) if order else rest


def _drop(items: Tensor, dropped: Tensor) -> Tensor:
    """Drop items, and fill the gaps with the last remaining items, in mmcv's order."""
    kept = (~dropped).nonzero().flatten()
    count = len(kept)
    gaps = dropped[:count].nonzero().flatten()
    items, fillers = items.clone(), items[kept[kept >= count].flip(0)]
    items[gaps] = fillers
    return items[:count]


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Group boxes by the better box that suppresses them.

    Args:
        dets (Tensor): (N, 5), x1, y1, x2, y2, score.
        iou_threshold (float): Boxes that overlap a better box by at least this belong to its group.

    Returns:
        list[list[int]]: For each box that is kept, its index and then the indices of its group, best score first.
    """
    rest = dets[:, 4].sort(descending=True, stable=True).indices
    boxes, areas = dets[:, :4], _areas(dets, 0)
    groups = []
    while len(rest):
        chosen, rest = rest[0], rest[1:]
        suppressed = _overlaps(boxes, areas, chosen, rest, 0) >= _as_float32(iou_threshold)
        groups.append([int(chosen), *rest[suppressed].tolist()])
        rest = rest[~suppressed]
    return groups


def _areas(boxes: Tensor, offset: int) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0] + offset) * (boxes[:, 3] - boxes[:, 1] + offset)


def _overlaps(boxes: Tensor, areas: Tensor, one: Tensor, others: Tensor, offset: int) -> Tensor:
    """Compute the intersection over union of one box with others, which are given by their indices."""
    low = torch.maximum(boxes[one, :2], boxes[others, :2])
    high = torch.minimum(boxes[one, 2:4], boxes[others, 2:4])
    inter = (high - low + offset).clamp(min=0).prod(dim=1)
    return inter / (areas[one] + areas[others] - inter)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Crop regions from feature maps to one size (RoIAlign, He et al., ICCV 2017).

    Args:
        input (Tensor): (N, C, H, W).
        rois (Tensor): (R, 5), index of the map, x1, y1, x2, y2.
        output (Tensor): (R, C, aligned_height, aligned_width); the crops are written into it.
        argmax_y (Tensor): With pool_mode 0, the rows of the largest samples are written into it; shaped as ``output``.
        argmax_x (Tensor): With pool_mode 0, the columns of these samples are written into it; shaped as ``output``.
        aligned_height (int): Bins of a crop from top to bottom.
        aligned_width (int): Bins of a crop from left to right.
        spatial_scale (float): Scale of the map relative to the coordinates of the boxes.
        sampling_ratio (int): Samples of a bin in each direction; 0 means as many as the bin has pixels.
        pool_mode (int): 0 for the largest sample of a bin, 1 for the mean of its samples.
        aligned (bool): Whether boxes are moved by half a pixel, so that pixels lie at whole coordinates.
    """
    size, maps, rois = (aligned_height, aligned_width), _at_least_float(input), rois.to(_at_least_float(input).dtype)
    if pool_mode == 1:
        output.copy_(torch.ops.torchvision.roi_align(maps, rois, spatial_scale, *size, sampling_ratio, aligned))
        return
    for rows, samples in _group_by_samples(rois, size, spatial_scale, sampling_ratio, aligned):
        # each sample becomes a bin of its own that is read at its centre
        fine = (size[0] * samples[0], size[1] * samples[1])
        values = torch.ops.torchvision.roi_align(maps, rois[rows], spatial_scale, *fine, 1, aligned)
        values = values.unflatten(3, (size[1], samples[1])).unflatten(2, (size[0], samples[0]))
        largest, index = values.transpose(3, 4).flatten(4).max(dim=4)  # (r, C, ph, pw, samples of a bin)
        output[rows] = largest.to(output.dtype)
        y, x = _sample_places(rois[rows], size, samples, spatial_scale, aligned)
        bins = [torch.arange(count, device=index.device) for count in size]
        argmax_y[rows] = _take(y, bins[0][:, None] * samples[0] + index // samples[1]).to(argmax_y.dtype)
        argmax_x[rows] = _take(x, bins[1] * samples[1] + index % samples[1]).to(argmax_x.dtype)


def _take(places: Tensor, index: Tensor) -> Tensor:
    """Look up places (r, n) at indices (r, C, ph, pw)."""
    return places.gather(1, index.flatten(1)).reshape(index.shape)


def _group_by_samples(
    rois: Tensor, size: tuple[int, int], spatial_scale: float, sampling_ratio: int, aligned: bool
) -> list[tuple[Tensor, tuple[int, int]]]:
    """Group the indices of regions by the number of samples (rows, columns) in their bins; return both."""
    if sampling_ratio > 0:
        counts = torch.full((len(rois), 2), sampling_ratio, device=rois.device)
    else:
        extents = _extents(rois, spatial_scale, aligned)[1]
        counts = (extents / extents.new_tensor(size)).ceil().clamp(min=1).long()
    kinds, kind = counts.unique(dim=0, return_inverse=True)
    return [((kind == i).nonzero().flatten(), tuple(samples)) for i, samples in enumerate(kinds.tolist())]


def _extents(rois: Tensor, spatial_scale: float, aligned: bool) -> tuple[Tensor, Tensor]:
    """Return where regions start on the map, and their heights and widths there: (R, 2), (R, 2), y before x."""
    start, end = (rois[:, columns] * spatial_scale - 0.5 * aligned for columns in ([2, 1], [4, 3]))
    extent = end - start
    return start, extent if aligned else extent.clamp(min=1)


def _sample_places(
    rois: Tensor, size: tuple[int, int], samples: tuple[int, int], spatial_scale: float, aligned: bool
) -> list[Tensor]:
    """Compute the rows (r, ph * samples) and the columns (r, pw * samples) at which regions are sampled."""
    start, extent = _extents(rois, spatial_scale, aligned)
    places = []
    for axis in range(2):
        count = size[axis] * samples[axis]
        steps = torch.arange(count, device=rois.device, dtype=rois.dtype) + 0.5
        places.append(start[:, axis, None] + steps * (extent[:, axis, None] / count))
    return places


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute RoIAlign's gradient with respect to the feature maps.

    Args:
        grad_output (Tensor): (R, C, aligned_height, aligned_width).
        rois (Tensor): (R, 5). This and the arguments below are the same as in :func:`roi_align_forward`.
        argmax_y (Tensor): Rows of the largest samples, with pool_mode 0.
        argmax_x (Tensor): Columns of the largest samples, with pool_mode 0.
        grad_input (Tensor): (N, C, H, W); the gradient is written into it.
        aligned_height (int): Bins of a crop from top to bottom.
        aligned_width (int): Bins of a crop from left to right.
        spatial_scale (float): Scale of the map relative to the coordinates of the boxes.
        sampling_ratio (int): Samples of a bin in each direction.
        pool_mode (int): 0 for the largest sample of a bin, 1 for the mean of its samples.
        aligned (bool): Whether boxes are moved by half a pixel.
    """
    grad = _at_least_float(grad_output)
    rois = rois.to(grad.dtype)
    if pool_mode == 1:
        size = (aligned_height, aligned_width)
        gradient = torch.ops.torchvision._roi_align_backward(
            grad, rois, spatial_scale, *size, *grad_input.shape, sampling_ratio, aligned
        )
    else:
        gradient = _scatter_bilinear(grad, rois[:, 0].long(), argmax_y.float(), argmax_x.float(), grad_input.shape)
    grad_input.copy_(gradient)


def _scatter_bilinear(grad: Tensor, maps: Tensor, y: Tensor, x: Tensor, shape: torch.Size) -> Tensor:
    """Add values (R, C, ph, pw) to the four pixels around each place, with the weights of bilinear interpolation."""
    _, channels, height, width = shape
    # RoIAlign reads zeros more than a pixel outside the map, and otherwise the nearest place inside the map
    inside = (y >= -1) & (y <= height) & (x >= -1) & (x <= width)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.floor(), x.floor()
    plane = (maps[:, None] * channels + torch.arange(channels, device=grad.device))[:, :, None, None] * (height * width)
    gradient = grad.new_zeros(shape.numel())
    for row, row_weight in ((top, 1 - (y - top)), ((top + 1).clamp(max=height - 1), y - top)):
        for column, weight in ((left, 1 - (x - left)), ((left + 1).clamp(max=width - 1), x - left)):
            index = plane + (row * width + column).long()
            gradient.index_add_(0, index.flatten(), (grad * row_weight * weight * inside).flatten())
    return gradient.reshape(shape)


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute the largest value of each bin of regions (RoIPool, Girshick, ICCV 2015).

    The bins follow mmcv, which does not round the region first; torchvision does.

    Args:
        input (Tensor): (N, C, H, W).
        rois (Tensor): (R, 5), index of the map, x1, y1, x2, y2; the box includes x2 and y2.
        output (Tensor): (R, C, pooled_height, pooled_width); the values are written into it.
        argmax (Tensor): Same shape, int32; row * W + column of each value is written into it, -1 for an empty bin.
        pooled_height (int): Bins from top to bottom.
        pooled_width (int): Bins from left to right.
        spatial_scale (float): Scale of the map relative to the coordinates of the boxes.
    """
    height, width = input.shape[2:]
    rois = rois.to(_at_least_float(input).dtype)
    start = rois[:, [2, 1]] * spatial_scale
    extent = (rois[:, [4, 3]] + 1) * spatial_scale - start
    for r, (first, last) in enumerate(_pool_bins(start, extent, (pooled_height, pooled_width), (height, width))):
        if (extent[r] <= 0).any():
            continue  # output and argmax stay as they are, as in mmcv
        (top, left), (bottom, right) = first, last
        rows = top[:, None] + torch.arange(max(int((bottom - top).max()), 1), device=input.device)  # (ph, kh)
        columns = left[:, None] + torch.arange(max(int((right - left).max()), 1), device=input.device)  # (pw, kw)
        valid = (rows < bottom[:, None])[:, None, :, None] & (columns < right[:, None])[None, :, None, :]
        places = rows.clamp(max=height - 1)[:, None, :, None] * width + columns.clamp(max=width - 1)[None, :, None, :]
        values = input[int(rois[r, 0])].flatten(1)[:, places]  # (C, ph, pw, kh, kw)
        largest, index = values.masked_fill(~valid, float("-inf")).flatten(3).max(dim=3)
        empty = ~valid.flatten(2).any(dim=2)
        output[r] = largest.masked_fill(empty, 0)
        found = places.flatten(2).expand(*largest.shape, -1).gather(3, index[..., None])[..., 0]
        argmax[r] = found.masked_fill(empty, -1).to(argmax.dtype)


def _pool_bins(
    start: Tensor, extent: Tensor, bins: tuple[int, int], size: tuple[int, int]
) -> list[tuple[list[Tensor], list[Tensor]]]:
    """Return for each region the first rows and columns of its bins, and the rows and columns after their last ones."""
    edges = []
    for axis in range(2):
        steps = torch.arange(bins[axis] + 1, device=start.device, dtype=start.dtype)
        ends = start[:, axis, None] + steps * (extent[:, axis, None] / bins[axis])  # (R, bins + 1)
        edges.append([part.clamp(0, size[axis]).long() for part in (ends[:, :-1].floor(), ends[:, 1:].ceil())])
    (top, bottom), (left, right) = edges
    return [([top[r], left[r]], [bottom[r], right[r]]) for r in range(len(start))]


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute RoIPool's gradient with respect to the feature maps.

    Args:
        grad_output (Tensor): (R, C, pooled_height, pooled_width).
        rois (Tensor): (R, 5), as in :func:`roi_pool_forward`.
        argmax (Tensor): (R, C, pooled_height, pooled_width), int32, from :func:`roi_pool_forward`.
        grad_input (Tensor): (N, C, H, W); the gradient is written into it.
        pooled_height (int): Bins from top to bottom.
        pooled_width (int): Bins from left to right.
        spatial_scale (float): Scale of the map relative to the coordinates of the boxes.
    """
    channels, pixels = grad_input.shape[1], grad_input.shape[2:].numel()
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    index = plane[:, :, None, None] * pixels + argmax.clamp(min=0)
    gradient = torch.zeros(grad_input.numel(), dtype=grad_output.dtype, device=grad_output.device)
    gradient.index_add_(0, index.flatten(), (grad_output * (argmax >= 0)).flatten())
    grad_input.copy_(gradient.reshape(grad_input.shape))


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the focal loss of each class separately (Lin et al., ICCV 2017).

    Args:
        input (Tensor): (N, C), logits.
        target (Tensor): (N,), int64, the class; any other number means background.
        weight (Tensor): (C,), a factor for the samples of each class, or empty.
        output (Tensor): (N, C); the losses are written into it.
        gamma (float): Exponent that makes easy samples count less.
        alpha (float): Weight of the positive samples.
    """
    positive, p = _one_hot(input, target), _at_least_float(input).sigmoid()
    of_positive = -alpha * (1 - p) ** gamma * p.clamp(min=_TINY).log()
    of_negative = -(1 - alpha) * p**gamma * (1 - p).clamp(min=_TINY).log()
    output.copy_(torch.where(positive, of_positive, of_negative) * _weights(weight, target)[:, None])


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the gradient of :func:`sigmoid_focal_loss_forward` with respect to the logits.

    Args:
        input (Tensor): (N, C), logits.
        target (Tensor): (N,), int64, the class; any other number means background.
        weight (Tensor): (C,), a factor for the samples of each class, or empty.
        grad_input (Tensor): (N, C); the gradient is written into it.
        gamma (float): Exponent that makes easy samples count less.
        alpha (float): Weight of the positive samples.
    """
    positive, p = _one_hot(input, target), _at_least_float(input).sigmoid()
    of_positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * p.clamp(min=_TINY).log())
    of_negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * (1 - p).clamp(min=_TINY).log() - p)
    grad_input.copy_(torch.where(positive, of_positive, of_negative) * _weights(weight, target)[:, None])


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the focal loss of the softmax over all classes.

    Args:
        input (Tensor): (N, C), probabilities, after the softmax.
        target (Tensor): (N,), int64, the class; the loss of a negative class is zero.
        weight (Tensor): (C,), a factor for the samples of each class, or empty.
        output (Tensor): (N,); the losses are written into it.
        gamma (float): Exponent that makes easy samples count less.
        alpha (float): Factor of all losses.
    """
    p = _of_target(input, target)
    loss = -alpha * (1 - p) ** gamma * p.clamp(min=_TINY).log()
    output.copy_(loss * (target >= 0) * _weights(weight, target))


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Compute the gradient of :func:`softmax_focal_loss_forward` with respect to the logits before the softmax.

    Args:
        input (Tensor): (N, C), probabilities, after the softmax.
        target (Tensor): (N,), int64, the class; the gradient of a negative class is zero.
        weight (Tensor): (C,), a factor for the samples of each class, or empty.
        buff (Tensor): (N,); p * d loss / d p is written into it.
        grad_input (Tensor): (N, C); the gradient is written into it.
        gamma (float): Exponent that makes easy samples count less.
        alpha (float): Factor of all losses.
    """
    p = _of_target(input, target)
    slope = alpha * (-((1 - p) ** gamma) + gamma * (1 - p) ** (gamma - 1) * p * p.clamp(min=_TINY).log())
    buff.copy_(slope * (target >= 0) * _weights(weight, target))
    one_hot = _one_hot(input, target).to(input.dtype)
    grad_input.copy_(buff[:, None] * (one_hot - input))


def _one_hot(input: Tensor, target: Tensor) -> Tensor:
    return target[:, None] == torch.arange(input.shape[1], device=input.device)


def _of_target(input: Tensor, target: Tensor) -> Tensor:
    """Return the probability of each sample's class, (N,)."""
    return _at_least_float(input).gather(1, target.clamp(min=0)[:, None])[:, 0]


def _weights(weight: Tensor, target: Tensor) -> Tensor:
    """Return the factor of each sample, (N,). Background comes after the last class and has the last class's factor."""
    if weight.numel() == 0:
        return torch.ones_like(target, dtype=torch.float32)
    return weight[target.clamp(0, len(weight) - 1)]


def _at_least_float(tensor: Tensor) -> Tensor:
    """Return a half precision tensor as float32, which torchvision supports for every operator on every device."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _as_float32(number: float) -> float:
    """Round a number to float32, as the compiled operators do before a comparison."""
    return torch.tensor(number, dtype=torch.float32).item()

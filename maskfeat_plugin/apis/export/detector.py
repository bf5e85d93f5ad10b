"""Exported form of detectors: takes an image, runs all steps of the test, and gives boxes, scores and classes."""

from collections.abc import Mapping, Sequence

import torch
from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import RPNHead
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.config import ConfigDict
from mmengine.model import BaseModel, BaseModule
from torch import Tensor, nn

from maskfeat_plugin.errors import ConfigError

from .parts import ExportedPart


class DetectingModel(ExportedPart):
    """A Faster R-CNN or Mask R-CNN of mmdet, built from operations whose outputs have a fixed size.

    mmdet selects boxes by conditions, so the number of boxes depends on the image. An exported graph does not support
    this everywhere. Here a box that is not selected keeps its row and gets a score of 0. RoIAlign and NMS are the
    operations of torchvision, which also exist in ONNX.

    Args:
        model (TwoStageDetector): The detector, with an ``RPNHead`` and a ``StandardRoIHead``.

    Raises:
        ConfigError: If the detector is built in another way.
    """

    takes_batches = False
    # rounding in the last digit of a box changes its pooled features, and so its score
    tolerance = 1e-2
    backbone: BaseModule
    neck: BaseModule
    rpn: RPNHead
    roi: StandardRoIHead

    def __init__(self, model: TwoStageDetector) -> None:
        _check(model)
        super().__init__(model, 4)
        self.backbone = model.backbone
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.rpn, self.roi = model.rpn_head, model.roi_head
        self.outputs = dict(
            boxes="float32 M x 4, left, top, right, bottom in pixels of the input",
            scores="float32 M, best first, 0 where there is no detection",
            labels="int64 M, number of the class, -1 where there is no detection",
        )
        if self.roi.with_mask:
            self.outputs["masks"] = "float32 M x h x w, probabilities; resize each to its box"
        self.eval()

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Detect objects.

        Args:
            inputs (Tensor): One image (1, C, H, W).

        Returns:
            tuple[Tensor, ...]: Boxes (M, 4), scores (M,), classes (M,), and for a Mask R-CNN masks (M, h, w). M is the
            largest number of detections in the model's ``test_cfg``.
        """
        height, width = inputs.shape[-2:]
        size = height, width
        maps = self.neck(self.backbone(self.normalize(inputs)))
        boxes, are_proposals = self._propose(maps, size)
        boxes, scores, labels = self._classify(maps, boxes, are_proposals, size)
        if not self.roi.with_mask:
            return boxes, scores, labels
        masks = self.roi.mask_head(_pool(self.roi.mask_roi_extractor, maps, boxes))  # (M, classes or 1, h, w)
        rows = torch.arange(len(labels), device=labels.device)
        own = labels.clamp_min(0) if masks.shape[1] > 1 else torch.zeros_like(labels)
        masks = masks[rows, own].sigmoid()
        return boxes, scores, labels, torch.where((labels >= 0)[:, None, None], masks, 0.0)

    def _propose(self, maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Compute the boxes (P, 4) of the region proposal network, and a mask (P,) of the rows that hold a box."""
        head, cfg = self.rpn, self.rpn.test_cfg
        sizes = [tuple(level.shape[-2:]) for level in maps]
        priors = head.prior_generator.grid_priors(sizes, device=maps[0].device)
        scores, deltas, chosen, levels = [], [], [], []
        for i, (logits, moves) in enumerate(zip(*head(maps), strict=True)):
            logits = logits[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
            own = logits.sigmoid()[:, 0] if head.use_sigmoid_cls else logits.softmax(-1)[:, 0]
            moves = moves[0].permute(1, 2, 0).reshape(-1, 4)
            nms_pre = cfg.get("nms_pre", -1)
            own, best = own.topk(min(nms_pre, len(own)) if nms_pre > 0 else len(own))
            scores.append(own)
            deltas.append(moves[best])
            chosen.append(priors[i][best])
            levels.append(torch.full_like(best, i))
        boxes = head.bbox_coder.decode(torch.cat(chosen), torch.cat(deltas), max_shape=size)
        sides = boxes[:, 2:] - boxes[:, :2]
        is_box = (sides > cfg.get("min_bbox_size", -1)).all(1)
        scores = torch.where(is_box, torch.cat(scores), -1.0)
        kept, is_there = _suppress(boxes, scores, torch.cat(levels), cfg.nms, cfg.max_per_img)
        return boxes[kept], is_there

    def _classify(
        self, maps: Sequence[Tensor], proposals: Tensor, are_proposals: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute boxes (M, 4), scores (M,) and classes (M,) from proposals."""
        head, cfg = self.roi.bbox_head, self.roi.test_cfg
        logits, deltas = head(_pool(self.roi.bbox_roi_extractor, maps, proposals))
        scores = logits.softmax(-1)[:, :-1]  # (P, K), without the background
        number = scores.shape[1]
        each = 1 if head.reg_class_agnostic else number
        boxes = head.bbox_coder.decode(proposals.repeat_interleave(each, dim=0), deltas.reshape(-1, 4), max_shape=size)
        boxes = boxes.view(-1, each, 4).expand(-1, number, 4).reshape(-1, 4)  # (P*K, 4)
        labels = torch.arange(number, device=scores.device).repeat(len(scores))
        are_good = (scores > cfg.score_thr) & are_proposals[:, None]
        scores = torch.where(are_good, scores, -1.0).flatten()
        kept, is_there = _suppress(boxes, scores, labels, cfg.nms, cfg.max_per_img)
        return (
            torch.where(is_there[:, None], boxes[kept], 0.0),
            torch.where(is_there, scores[kept], 0.0),
            torch.where(is_there, labels[kept], -1),
        )

    def describe(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """Return the number of detections in words."""
        return f"{', '.join(shapes)} of at most {shapes['boxes'][0]} detections"

    def remark(self, outputs: Sequence[Sequence[Tensor]]) -> str:
        """Return a remark if there was no detection to compare."""
        if any(scores.any() for _, scores, *_ in outputs):
            return ""
        return (
            "The model found nothing in the random images of the comparison. Compare the file with the model on your "
            "own images."
        )

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
        """Compute the largest difference of a score, and of a box as a share of its image.

        Each detection is compared with the nearest one of the same class, because detections with equal scores may be
        in any order.
        """
        difference = float((ours[1] - theirs[1]).abs().max())
        extent = float(ours[0].max().clamp_min(1))
        for box, score, label in zip(*ours[:3], strict=True):
            if score <= 0:
                continue
            same = theirs[2] == label
            if not same.any():
                return float("inf")
            difference = max(difference, float((theirs[0][same] - box).abs().amax(1).min()) / extent)
        return difference


def _check(model: BaseModel) -> None:
    """Refuse a detector whose test differs from the steps in this module."""
    name = type(model).__name__
    wanted = "Faster R-CNN and Mask R-CNN of mmdet (RPNHead, StandardRoIHead)"
    advice = "Export its backbone alone with --backbone."
    fits = isinstance(model, TwoStageDetector) and type(model.rpn_head) is RPNHead
    if not fits or type(model.roi_head) is not StandardRoIHead:
        raise ConfigError(
            f"model.type={name!r} cannot be exported as a whole. Of detectors, only {wanted} can. {advice}"
        )
    roi = model.roi_head
    extractors = [roi.bbox_roi_extractor, *([roi.mask_roi_extractor] if roi.with_mask else [])]
    for extractor in extractors:
        layers = extractor.roi_layers if type(extractor) is SingleRoIExtractor else [None]
        if not all(isinstance(layer, RoIAlign) and layer.pool_mode == "avg" for layer in layers):
            raise ConfigError(
                f"{type(extractor).__name__} of {name} cannot be exported. Use SingleRoIExtractor with RoIAlign."
            )
    for cfg in (model.rpn_head.test_cfg, roi.test_cfg):
        if cfg.nms.get("type", "nms") != "nms" or cfg.max_per_img <= 0:
            raise ConfigError(
                f"model.test_cfg of {name}: {cfg} cannot be exported. Set nms.type='nms' and max_per_img above 0."
            )
    if roi.with_shared_head or roi.bbox_head.custom_cls_channels:
        raise ConfigError(f"{name}: a shared head or a loss with its own activation cannot be exported. {advice}")


def _suppress(boxes: Tensor, scores: Tensor, groups: Tensor, nms: ConfigDict, number: int) -> tuple[Tensor, Tensor]:
    """Suppress each box that overlaps a better box of its group (NMS).

    A box with a negative score does not count as a box, and comes last.

    Returns:
        tuple[Tensor, Tensor]: Indices of the remaining boxes, best first, (``number``,), and whether each index belongs
        to a box, bool (``number``,).
    """
    if not nms.get("class_agnostic", False):
        offsets = groups.to(boxes) * (boxes.max() + 1)  # so that boxes of different groups do not overlap
        spread = boxes + offsets[:, None]
    else:
        spread = boxes
    kept = torch.ops.torchvision.nms(spread, scores, nms.iou_threshold)
    is_kept = torch.arange(number, device=kept.device) < kept.shape[0]
    kept = torch.cat([kept, kept.new_zeros(number)])[:number]
    return kept, is_kept & (scores[kept] >= 0)


def _pool(extractor: SingleRoIExtractor, maps: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Pool the features (P, C, h, w) of boxes (P, 4), each from the feature map that fits its size."""
    maps = maps[: extractor.num_inputs]
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1)
    levels = extractor.map_roi_levels(rois, len(maps))[:, None, None, None]
    pooled: Tensor | None = None
    for i, (level, layer) in enumerate(zip(maps, extractor.roi_layers, strict=True)):
        height, width = layer.output_size
        own = torch.ops.torchvision.roi_align(
            level, rois, layer.spatial_scale, height, width, layer.sampling_ratio, layer.aligned
        )
        pooled = own if pooled is None else torch.where(levels == i, own, pooled)
    assert pooled is not None  # an extractor has at least one layer
    return pooled

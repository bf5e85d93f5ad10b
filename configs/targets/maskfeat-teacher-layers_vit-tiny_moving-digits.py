"""MaskFeat on frames of MovingDigits with several layers of a teacher as the target; no labels.

The teacher is mmpretrain's ViT with the demo's shipped weights. The target is the mean of its layer-normalised last
three blocks.
"""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TeacherGenerator",
        teacher=dict(
            _base_.model.backbone,
            type="mmpretrain.VisionTransformer",
            out_type="featmap",
            out_indices=(1, 2, 3),
            init_cfg=dict(
                type="maskfeat.Pretrained",
                checkpoint="{{ fileDirname }}/../demo/weights/maskfeat_vit-tiny_moving-digits.pth",
            ),
        ),
        layer=(0, 1, 2),
        combine="mean",
        norm="layer",
        stride=8,
    ),
    neck=dict(out_channels=96),
    head=dict(loss=dict(kind="smooth_l1")),
)

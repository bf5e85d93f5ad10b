"""Our MaskFeat with a registered model as the teacher: it predicts deep features of masked blocks; no labels.

The teacher is mmpretrain's ViT with the demo's shipped weights. It is frozen: it is neither trained nor saved.
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
            init_cfg=dict(
                type="maskfeat.Pretrained",
                checkpoint="{{ fileDirname }}/../demo/weights/maskfeat_vit-tiny_moving-digits.pth",
            ),
        ),
    ),
    neck=dict(out_channels=96),
    head=dict(loss=dict(kind="cosine")),
)

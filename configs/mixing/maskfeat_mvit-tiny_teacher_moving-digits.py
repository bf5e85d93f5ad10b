"""Our MaskFeat on clips with an image teacher, which sees the first of the two frames of each token; no labels.

The teacher is mmpretrain's ViT with the demo's shipped weights. It is frozen: it is neither trained nor saved.
"""

_base_ = "../demo/maskfeat_mvit-tiny_moving-digits.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TeacherGenerator",
        teacher=dict(
            type="mmpretrain.VisionTransformer",
            arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
            img_size=40,
            patch_size=8,
            out_type="featmap",
            init_cfg=dict(
                type="maskfeat.Pretrained",
                checkpoint="{{ fileDirname }}/../demo/weights/maskfeat_vit-tiny_moving-digits.pth",
            ),
        ),
    ),
    neck=dict(out_channels=96),
    head=dict(loss=dict(kind="mse")),
)

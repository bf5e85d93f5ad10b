"""Classes that the demo's classifier assigns, as the target. A config merges its model."""

pseudo_label = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.PseudoLabelGenerator",
        num_classes=10,
        classifier=dict(
            type="mmpretrain.ImageClassifier",
            backbone=dict(
                type="VisionTransformer",
                arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
                img_size=40,
                patch_size=8,
                out_type="featmap",
            ),
            head=dict(type="LinearClsHead", in_channels=96, num_classes=10),
            init_cfg=dict(
                type="Pretrained",
                checkpoint="work_dirs/vit-tiny_moving-digits-class/iter_500.pth",
                # use its norm after mean pooling as the norm of every token
                revise_keys=[(r"^backbone\.ln2\.", "backbone.ln1.")],
            ),
        ),
    ),
    neck=dict(out_channels=10),
    head=dict(_delete_=True, type="maskfeat.ClassificationHead"),
)

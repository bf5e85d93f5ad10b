"""Classes that a supervised ResNet-50 assigns, as the target. A config merges its model."""

pseudo_label = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.PseudoLabelGenerator",
        num_classes=1000,
        classifier=dict(
            type="mmpretrain.ImageClassifier",
            backbone=dict(type="ResNet", depth=50),
            head=dict(type="LinearClsHead", num_classes=1000, in_channels=2048),
            init_cfg=dict(type="Pretrained", checkpoint="data/targets/resnet50_8xb32_in1k_20210831-ea4938fc.pth"),
        ),
    ),
    neck=dict(out_channels=1000),
    head=dict(_delete_=True, type="maskfeat.ClassificationHead"),
)

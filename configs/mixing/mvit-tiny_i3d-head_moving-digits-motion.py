"""mmaction2's recognizer with our MViT and I3D's head of 3D convolutional networks; from few labels.

The head takes one feature map, which ``maskfeat.LastFeatureMap`` selects. To start from pre-trained weights, see
``configs/demo/mvit-tiny_moving-digits-motion.py``.
"""

_base_ = "../demo/mvit-tiny_moving-digits-motion.py"

model = dict(
    backbone=dict(out_type="featmap", output_cls_token=False),
    neck=dict(type="maskfeat.LastFeatureMap"),
    cls_head=dict(
        _delete_=True, type="I3DHead", in_channels=64, num_classes=8, dropout_ratio=0.0, average_clips="prob"
    ),
)

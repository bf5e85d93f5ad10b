"""Our MaskFeat with mmpretrain's mask generator, neck, head and loss: it predicts pixels; no labels."""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(
    target_generator=dict(_delete_=True, type="maskfeat.PixelGenerator"),
    neck=dict(_delete_=True, type="mmpretrain.LinearNeck", in_channels=96, out_channels=192, norm_cfg=None),
    head=dict(
        _delete_=True,
        type="mmpretrain.MIMHead",
        loss=dict(type="mmpretrain.PixelReconstructionLoss", criterion="L2"),
    ),
)

train_pipeline = [
    *_base_.train_pipeline[:2],  # read, crop to 40 x 40
    dict(type="BEiTMaskGenerator", input_size=5, num_masking_patches=10, min_num_patches=2),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

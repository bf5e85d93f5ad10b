"""mmpretrain's SimMIM with our backbone: the masked ViT with SimMIM's masks, neck, head and pixel loss; no labels."""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(
    _delete_=True,
    type="SimMIM",
    data_preprocessor=dict(type="SelfSupDataPreprocessor", mean=[114.75] * 3, std=[57.375] * 3, to_rgb=True),
    backbone=dict(_base_.model.backbone, type="maskfeat.MIMViT", out_type="featmap"),
    neck=dict(type="SimMIMLinearDecoder", in_channels=96, encoder_stride=8),
    head=dict(type="SimMIMHead", patch_size=8, loss=dict(type="PixelReconstructionLoss", criterion="L1", channel=3)),
)

train_pipeline = [
    *_base_.train_pipeline[:2],  # read, crop to 40 x 40
    dict(type="SimMIMMaskGenerator", input_size=40, mask_patch_size=8, model_patch_size=8, mask_ratio=0.6),
    dict(type="PackInputs"),
]
train_dataloader = dict(collate_fn=dict(type="default_collate"), dataset=dict(pipeline=train_pipeline))

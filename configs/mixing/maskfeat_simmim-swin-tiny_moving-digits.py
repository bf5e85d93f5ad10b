"""Our MaskFeat with mmpretrain's backbone: SimMIM's Swin predicts the HOG of masked blocks; no labels.

It is a tiny Swin of three stages instead of four, on frames of MovingDigits. SimMIM's masks are on patches of 4 pixels,
but its output has one token per 16 pixels. ``maskfeat.MaskableBackbone`` adapts the masks. A target token has 2 x 2
cells, as in the paper.
"""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

token_grid = (4, 4)
model = dict(
    backbone=dict(
        _delete_=True,
        type="maskfeat.MaskableBackbone",
        backbone=dict(
            type="mmpretrain.SimMIMSwinTransformer",
            arch=dict(embed_dims=24, depths=[2, 2, 2], num_heads=[2, 4, 8]),
            img_size=64,
            out_indices=(2,),
            drop_path_rate=0.0,
            stage_cfgs=dict(block_cfgs=dict(window_size=4)),
        ),
        mask_stride=4,
        token_stride=16,
    ),
    target_generator=dict(cell_size=8),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=64, crop_ratio_range=(0.5, 1.0)),
    dict(type="maskfeat.BlockMaskGenerator", token_grid=token_grid, mask_ratio=0.4),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))

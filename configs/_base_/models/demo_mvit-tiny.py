"""Backbone of the demos on clips of 8 frames of 32 x 32: an MViT of 4 layers of 64, 4 x 4 x 4 tokens, no pooling."""

model = dict(
    backbone=dict(
        arch=dict(embed_dims=64, num_layers=4, num_heads=2, downscale_indices=[], dim_mul_indices=[]),
        temporal_size=8,
        spatial_size=32,
        patch_cfg=dict(kernel_size=(3, 9, 9), stride=(2, 8, 8), padding=(1, 4, 4)),
        adaptive_kv_stride=(1, 1, 1),
    )
)

"""Backbone of the demos on images of 40 x 40: a ViT of 4 layers of 96, 5 x 5 tokens of 8 x 8 pixels."""

model = dict(
    backbone=dict(
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=40,
        patch_size=8,
    )
)

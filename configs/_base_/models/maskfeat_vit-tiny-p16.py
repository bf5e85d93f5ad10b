"""``maskfeat_vit-base-p16.py`` with a ViT of 4 layers of 96, for a first try on a CPU; same tokens and target."""

_base_ = "./maskfeat_vit-base-p16.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="maskfeat.MaskedViT",
        arch=dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384),
        img_size=224,
        patch_size=16,
    ),
    neck=dict(in_channels=96),
)

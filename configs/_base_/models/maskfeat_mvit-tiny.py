"""``maskfeat_mvit-small.py`` with an MViT of 4 layers of 96, for a first try on a CPU; same tokens and target."""

_base_ = "./maskfeat_mvit-small.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="maskfeat.MaskedMViT",
        arch=dict(embed_dims=96, num_layers=4, num_heads=2, downscale_indices=[], dim_mul_indices=[]),
        temporal_size=16,
        spatial_size=224,
        patch_cfg=dict(kernel_size=(3, 17, 17), stride=(2, 16, 16), padding=(1, 8, 8)),
        adaptive_kv_stride=(1, 4, 4),
    ),
    neck=dict(in_channels=96),
)

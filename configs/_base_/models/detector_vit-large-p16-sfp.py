"""Changes that ViT-L/16 makes to a detector with ViT-B/16: layer decay 0.8, drop path 0.4 as in ViTDet."""

vit_large = dict(
    model=dict(
        backbone=dict(
            arch="large",
            drop_path_rate=0.4,
            init_cfg=dict(checkpoint="work_dirs/maskfeat_vit-large-p16_16xb128-amp-coslr-1600e_in1k/epoch_1600.pth"),
        ),
        neck=dict(in_channels=1024),
    ),
    train_dataloader=dict(batch_size=4),
    optim_wrapper=dict(paramwise_cfg=dict(layer_decay_rate=0.8)),
)

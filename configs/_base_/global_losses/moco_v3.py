"""Contrast of two views as in MoCo v3, in addition to the target of the masked tokens; widths for 768 channels."""


def _neck(in_channels, out_channels, num_layers):
    return dict(
        type="mmpretrain.NonLinearNeck",
        in_channels=in_channels,
        hid_channels=4096,
        out_channels=out_channels,
        num_layers=num_layers,
        with_last_bn_affine=False,
        with_avg_pool=False,
    )


temperature = 0.2
moco_v3 = dict(
    global_loss=dict(
        type="maskfeat.MomentumContrast",
        projector=_neck(768, 256, 3),
        head=dict(
            type="maskfeat.MoCoV3Head",
            predictor=_neck(256, 256, 2),
            loss=dict(type="mmpretrain.CrossEntropyLoss", loss_weight=2 * temperature),
            temperature=temperature,
        ),
        momentum=0.01,
        loss_weight=0.1,
    )
)

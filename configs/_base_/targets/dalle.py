"""Discrete tokens of DALL-E's dVAE, as the target. A config merges its model."""

dalle = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TokenGenerator",
        tokenizer=dict(
            type="mmpretrain.DALL-E",
            init_cfg=dict(type="Pretrained", checkpoint="data/targets/dalle_encoder.pth"),
        ),
    ),
    neck=dict(out_channels=8192),
    head=dict(_delete_=True, type="maskfeat.ClassificationHead"),
)

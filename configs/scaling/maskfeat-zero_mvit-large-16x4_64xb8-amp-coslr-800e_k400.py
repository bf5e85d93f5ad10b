"""MaskFeat pre-training of MViT-L on Kinetics-400, 800 epochs, by DeepSpeed's ZeRO on 64 GPUs of 8 clips."""

_base_ = [
    "../pretrain/maskfeat_mvit-large-16x4_64xb8-amp-coslr-800e_k400.py",
    "../_base_/strategies/zero.py",
]

optim_wrapper = dict(
    _delete_=True,
    type="DeepSpeedOptimWrapper",
    optimizer=_base_.optim_wrapper.optimizer,
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
)

"""MaskFeat pre-training of ViT-L/16 on ImageNet-1k, 1600 epochs, by DeepSpeed's ZeRO on 16 GPUs of 128 images."""

_base_ = [
    "../pretrain/maskfeat_vit-large-p16_16xb128-amp-coslr-1600e_in1k.py",
    "../_base_/strategies/zero.py",
]

optim_wrapper = dict(
    _delete_=True,
    type="DeepSpeedOptimWrapper",
    optimizer=_base_.optim_wrapper.optimizer,
    constructor="maskfeat.GroupedOptimWrapperConstructor",
    paramwise_cfg=dict(flat_decay_mult=0.0),
)

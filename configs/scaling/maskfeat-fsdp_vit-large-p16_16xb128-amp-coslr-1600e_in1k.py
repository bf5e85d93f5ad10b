"""MaskFeat pre-training of ViT-L/16 on ImageNet-1k, 1600 epochs, sharded over 16 GPUs of 128 images."""

_base_ = [
    "../pretrain/maskfeat_vit-large-p16_16xb128-amp-coslr-1600e_in1k.py",
    "../_base_/strategies/fsdp.py",
]

optim_wrapper = dict(type="maskfeat.BFloat16OptimWrapper")
# A folder into which every process writes its shards; "epoch_{}.pth" would be a single file
default_hooks = dict(checkpoint=dict(filename_tmpl="epoch_{}.sharded"))

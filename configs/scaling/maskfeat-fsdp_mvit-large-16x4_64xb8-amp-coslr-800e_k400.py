"""MaskFeat pre-training of MViT-L on Kinetics-400, 800 epochs, sharded over 64 GPUs of 8 clips."""

_base_ = [
    "../pretrain/maskfeat_mvit-large-16x4_64xb8-amp-coslr-800e_k400.py",
    "../_base_/strategies/fsdp.py",
]

optim_wrapper = dict(type="maskfeat.BFloat16OptimWrapper")
# A folder into which every process writes its shards; "epoch_{}.pth" would be a single file
default_hooks = dict(checkpoint=dict(filename_tmpl="epoch_{}.sharded"))

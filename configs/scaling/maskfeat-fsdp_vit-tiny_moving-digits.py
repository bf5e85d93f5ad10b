"""MaskFeat on frames of MovingDigits, a tiny ViT sharded over processes, which may be on a CPU; no labels.

It trains in float32, as the demo does. For mixed precision set ``optim_wrapper.type=maskfeat.BFloat16OptimWrapper``.
"""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

runner_type = "FlexibleRunner"
strategy = dict(type="maskfeat.FSDPStrategy", activation_checkpointing=dict(check_fn="maskfeat.is_block"))
env_cfg = dict(dist_cfg=dict(backend="nccl"))  # use gloo without a GPU
default_hooks = dict(checkpoint=dict(save_optimizer=True))

"""MaskFeat on frames of MovingDigits, a tiny ViT sharded over processes, which may be on a CPU; no labels.

Everything in float32, as the demo: set ``optim_wrapper.type=maskfeat.BFloat16OptimWrapper`` for mixed precision.
"""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

runner_type = "FlexibleRunner"
strategy = dict(type="maskfeat.FSDPStrategy", activation_checkpointing=dict(check_fn="maskfeat.is_block"))
env_cfg = dict(dist_cfg=dict(backend="nccl"))  # gloo without a GPU
default_hooks = dict(checkpoint=dict(save_optimizer=True))

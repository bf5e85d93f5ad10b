"""Fine-tuning of MViT-S on AVA v2.2 from Kinetics-400 weights, 30 epochs, on 8 GPUs of 16 clips.

It starts from the weights of the fine-tuning config on Kinetics-400 in ``work_dirs``. For other weights of MViT-S, such
as the authors' or weights that are only pre-trained, use ``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.

The authors released no recipe for AVA. In the files of ``_base_`` each value is marked: "authors" from their recipe for
Kinetics-400, or "ours". The choice of the initial weights is ours.
"""

_base_ = [
    "../_base_/models/mvit-small_ava.py",
    "../_base_/datasets/ava22.py",
    "../_base_/schedules/mvit_ava_30e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            type="maskfeat.Pretrained",
            checkpoint="work_dirs/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400/epoch_100.pth",
        )
    )
)

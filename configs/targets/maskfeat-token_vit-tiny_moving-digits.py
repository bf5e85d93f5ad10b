"""MaskFeat on frames of MovingDigits: a tiny ViT predicts discrete tokens; no labels.

The tokenizer stands in for DALL-E's: its encoder, tiny, with random weights.
"""

_base_ = "../demo/maskfeat_vit-tiny_moving-digits.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TokenGenerator",
        tokenizer=dict(type="mmpretrain.DALL-E", n_hid=16, n_blk_per_group=1, vocab_size=64),
        vocab_size=64,
    ),
    neck=dict(out_channels=64),
    head=dict(_delete_=True, type="maskfeat.ClassificationHead"),
)

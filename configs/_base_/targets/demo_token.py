"""Discrete tokens of a tiny encoder like DALL-E's with random weights, as the target. A config merges its model."""

token = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TokenGenerator",
        tokenizer=dict(type="mmpretrain.DALL-E", n_hid=16, n_blk_per_group=1, vocab_size=64),
        vocab_size=64,
    ),
    neck=dict(out_channels=64),
    head=dict(_delete_=True, type="maskfeat.ClassificationHead"),
)

"""``local-hog.py`` for the demos: cells of 2, 4 and 8 pixels, tokens of 8; two early layers of four."""

_base_ = "./local-hog.py"

local_hog = dict(
    backbone=dict(early_layers=(1, 2)),
    target_generator=dict(targets=dict(fine=dict(cell_size=2), middle=dict(cell_size=4), coarse=dict(cell_size=8))),
)

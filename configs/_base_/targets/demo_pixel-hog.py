"""``pixel-hog.py`` for the demos: cells of 4 pixels, tokens of 8. A config of another width changes ``in_channels``."""

_base_ = "./pixel-hog.py"

pixel_hog = dict(
    target_generator=dict(targets=dict(hog=dict(cell_size=4))),
    neck=dict(necks=dict(pixel=dict(in_channels=96, out_channels=192), hog=dict(in_channels=96))),
)

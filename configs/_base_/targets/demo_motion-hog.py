"""``motion-hog.py`` for the demo's clips: cells of 4 pixels, and tokens of 64 channels."""

_base_ = "./motion-hog.py"

motion_hog = dict(
    target_generator=dict(targets=dict(hog=dict(cell_size=4), motion=dict(cell_size=4))),
    neck=dict(necks=dict(hog=dict(in_channels=64), motion=dict(in_channels=64))),
)

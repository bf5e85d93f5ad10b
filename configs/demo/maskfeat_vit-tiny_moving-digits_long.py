"""The same MaskFeat on frames of MovingDigits for longer: makes the shipped weights (``make demo-weights``)."""

_base_ = "./maskfeat_vit-tiny_moving-digits.py"

max_iters = 6000
train_cfg = dict(max_iters=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, end=200),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=200, T_max=max_iters - 200, eta_min_ratio=0.01),
]
# Pictures of the predictions for four samples, see docs/visualization.md
visualizer = dict(type="maskfeat.MaskFeatVisualizer")
default_hooks = dict(
    checkpoint=dict(interval=1000),
    visualization=dict(type="maskfeat.MaskFeatVisualizationHook", interval=1000),
)

"""``moco_v3.py`` for the demos, on one process. A config sets the ``in_channels`` of the projector."""

_base_ = "./moco_v3.py"

sizes = dict(hid_channels=192, out_channels=64, norm_cfg=dict(type="BN1d"))
moco_v3 = dict(global_loss=dict(projector=sizes, head=dict(predictor=dict(in_channels=64, **sizes))))

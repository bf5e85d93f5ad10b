"""Fine-tuning of MViT-L on Kinetics-700: as on Kinetics-400 but for classes and files.

The recipe on this data set is not given by the release notes at hand: it is that of Kinetics-400, the weights it starts
from too. From any other MaskFeat checkpoint with
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = ["./mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-75e_k400.py", "../_base_/datasets/kinetics700.py"]

model = _base_.kinetics700.model
train_dataloader = _base_.kinetics700.train_dataloader
val_dataloader = _base_.kinetics700.val_dataloader
test_dataloader = _base_.kinetics700.test_dataloader

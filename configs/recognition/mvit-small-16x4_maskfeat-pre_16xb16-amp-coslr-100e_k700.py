"""Fine-tuning of MViT-S on Kinetics-700: as on Kinetics-400 but for classes and files.

The recipe for this data set is not in the release notes that we have. This config uses the recipe and the initial
weights for Kinetics-400. For another MaskFeat checkpoint use ``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = ["./mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py", "../_base_/datasets/kinetics700.py"]

model = _base_.kinetics700.model
train_dataloader = _base_.kinetics700.train_dataloader
val_dataloader = _base_.kinetics700.val_dataloader
test_dataloader = _base_.kinetics700.test_dataloader

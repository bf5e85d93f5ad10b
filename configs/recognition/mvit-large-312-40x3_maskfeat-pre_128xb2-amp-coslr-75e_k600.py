"""Fine-tuning of MViT-L at 312 pixels, clips 40x3, on Kinetics-600: as on Kinetics-400 but for classes and files.

The recipe for this data set is not in the release notes that we have. This config uses the recipe and the initial
weights for Kinetics-400. For another MaskFeat checkpoint use ``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = ["./mvit-large-312-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k400.py", "../_base_/datasets/kinetics600.py"]

model = _base_.kinetics600.model
train_dataloader = _base_.kinetics600.train_dataloader
val_dataloader = _base_.kinetics600.val_dataloader
test_dataloader = _base_.kinetics600.test_dataloader

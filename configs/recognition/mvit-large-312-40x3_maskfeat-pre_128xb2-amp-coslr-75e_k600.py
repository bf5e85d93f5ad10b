"""Fine-tuning of MViT-L at 312 pixels, clips 40x3, on Kinetics-600: as on Kinetics-400 but for classes and files.

The recipe on this data set is not given by the release notes at hand: it is that of Kinetics-400, the weights it starts
from too. From any other MaskFeat checkpoint with
``--cfg-options model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = ["./mvit-large-312-40x3_maskfeat-pre_128xb2-amp-coslr-75e_k400.py", "../_base_/datasets/kinetics600.py"]

model = _base_.kinetics600.model
train_dataloader = _base_.kinetics600.train_dataloader
val_dataloader = _base_.kinetics600.val_dataloader
test_dataloader = _base_.kinetics600.test_dataloader

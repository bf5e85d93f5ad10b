"""A folder of videos for pre-training, with sub-folders; clips, crops, flips and masks as in our Kinetics-400 config.

The crops of wide and tall videos cover every part. A clip of 16x4 spans 64 / 30 s at every frame rate.

Set the folder with ``train_dataloader.dataset.data_prefix.video``, or its manifest with
``train_dataloader.dataset.ann_file``. No labels and no list are needed. If ``ann_file`` is a list of names in that
folder, only these videos are used.
"""

_base_ = "./kinetics400_pretrain.py"

train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(_base_.train_pipeline[3], type="maskfeat.MovingResizedCropFlip"),
    *_base_.train_pipeline[4:],
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    drop_last=False,  # a folder may have fewer videos than a batch
    dataset=dict(data_root="", ann_file="", data_prefix=dict(video=""), pipeline=train_pipeline),
)

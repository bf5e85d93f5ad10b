"""A folder of videos for pre-training, sub-folders too; clips, crops, flips and masks are those of Kinetics-400 here.

Of wide and tall videos the crops see every part. A clip of 16x4 spans 64 / 30 s whatever the rate of the file.

Set the folder with ``train_dataloader.dataset.data_prefix.video``, or a manifest of it with
``train_dataloader.dataset.ann_file``. No labels and no list are needed; an ``ann_file`` that is a list of names in that
folder chooses some of the videos.
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

"""A folder of images for pre-training, with sub-folders; crops, flips and masks as in our ImageNet-1k config.

The crops of wide and tall images, such as panoramas and long screenshots, cover every part.

Set the folder with ``train_dataloader.dataset.data_root``, or its manifest with ``train_dataloader.dataset.ann_file``.
Labels are not needed.
"""

_base_ = "./imagenet_pretrain.py"

train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], type="maskfeat.MovingResizedCrop"),
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    drop_last=False,  # a folder may have fewer images than a batch
    dataset=dict(
        _delete_=True,
        type="maskfeat.SkipBadFiles",
        dataset_type="maskfeat.ImageDataset",
        data_root="",
        with_label=False,
        pipeline=train_pipeline,
    ),
)

"""AVA v2.2 for action detection, from raw frames: clips 16x4 around the annotated second.

The boxes are the proposals of a person detector that mmaction2's guide to AVA names. They are transformed together with
the frames by scaling, crop and flip.

"authors" marks the values of their recipe for Kinetics-400, because they released none for AVA. "ours" marks all other
values.
"""

default_scope = "mmaction"

data_root = "data/ava"
annotations = f"{data_root}/annotations"
train_pipeline = [
    dict(type="maskfeat.SampleAVAFrames", clip_len=16, frame_interval=4),  # authors
    dict(type="RawFrameDecode"),
    dict(type="RandomRescale", scale_range=(256, 320)),  # ours
    dict(type="RandomCrop", size=224),  # authors (the size; the crop has no jitter of area and aspect: ours)
    dict(type="Flip", flip_ratio=0.5),  # authors
    dict(type="FormatShape", input_format="NCTHW", collapse=True),
    dict(type="PackActionInputs"),
]
val_pipeline = [
    dict(type="maskfeat.SampleAVAFrames", clip_len=16, frame_interval=4, test_mode=True),  # authors
    dict(type="RawFrameDecode"),
    dict(type="Resize", scale=(-1, 224)),  # ours: the whole frame
    dict(type="FormatShape", input_format="NCTHW", collapse=True),
    dict(type="PackActionInputs"),
]
label_file = f"{annotations}/ava_action_list_v2.2_for_activitynet_2019.pbtxt"
train_dataloader = dict(
    batch_size=16,  # ours
    num_workers=8,  # ours
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="maskfeat.AVADataset",
        ann_file=f"{annotations}/ava_train_v2.2.csv",
        exclude_file=f"{annotations}/ava_train_excluded_timestamps_v2.2.csv",
        label_file=label_file,
        proposal_file=f"{annotations}/ava_dense_proposals_train.FAIR.recall_93.9.pkl",
        data_prefix=dict(img=f"{data_root}/rawframes"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,  # ours
    num_workers=8,  # ours
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="maskfeat.AVADataset",
        ann_file=f"{annotations}/ava_val_v2.2.csv",
        exclude_file=f"{annotations}/ava_val_excluded_timestamps_v2.2.csv",
        label_file=label_file,
        proposal_file=f"{annotations}/ava_dense_proposals_val.FAIR.recall_93.9.pkl",
        data_prefix=dict(img=f"{data_root}/rawframes"),
        pipeline=val_pipeline,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="maskfeat.AVAMetric",
    ann_file=f"{annotations}/ava_val_v2.2.csv",
    exclude_file=f"{annotations}/ava_val_excluded_timestamps_v2.2.csv",
    label_file=label_file,
)
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()
visualizer = dict(
    type="ActionVisualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
)

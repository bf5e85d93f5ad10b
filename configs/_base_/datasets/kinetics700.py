"""Kinetics-700 instead of Kinetics-400: the classes and files that differ. A config merges its values."""

kinetics700 = dict(
    model=dict(
        data_preprocessor=dict(
            blending=dict(
                augments=[
                    dict(type="MixupBlending", alpha=0.8, num_classes=700),
                    dict(type="CutmixBlending", alpha=1.0, num_classes=700),
                ]
            )
        ),
        cls_head=dict(num_classes=700),
    ),
    train_dataloader=dict(
        dataset=dict(data_root="data/kinetics700", ann_file="kinetics700_train_list_videos.txt"),
    ),
    val_dataloader=dict(
        dataset=dict(data_root="data/kinetics700", ann_file="kinetics700_val_list_videos.txt"),
    ),
    test_dataloader=dict(
        dataset=dict(data_root="data/kinetics700", ann_file="kinetics700_val_list_videos.txt"),
    ),
)

"""Kinetics-600 instead of Kinetics-400: the classes and files that differ. A config merges its values."""

kinetics600 = dict(
    model=dict(
        data_preprocessor=dict(
            blending=dict(
                augments=[
                    dict(type="MixupBlending", alpha=0.8, num_classes=600),
                    dict(type="CutmixBlending", alpha=1.0, num_classes=600),
                ]
            )
        ),
        cls_head=dict(num_classes=600),
    ),
    train_dataloader=dict(
        dataset=dict(data_root="data/kinetics600", ann_file="kinetics600_train_list_videos.txt"),
    ),
    val_dataloader=dict(
        dataset=dict(data_root="data/kinetics600", ann_file="kinetics600_val_list_videos.txt"),
    ),
    test_dataloader=dict(
        dataset=dict(data_root="data/kinetics600", ann_file="kinetics600_val_list_videos.txt"),
    ),
)

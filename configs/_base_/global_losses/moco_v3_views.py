"""Random colours of the views of images in MoCo v3."""

# torchvision's jitter, because the hue of mmcv's jitter fails with numpy 2
colour_jitter = dict(
    type="RandomApply",
    transforms=[
        dict(type="NumpyToPIL", to_rgb=True),
        dict(type="torchvision/ColorJitter", brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1),
        dict(type="PILToNumpy", to_bgr=True),
    ],
    prob=0.8,
)
grayscale = dict(type="RandomGrayscale", prob=0.2, keep_channels=True, channel_weights=(0.114, 0.587, 0.2989))

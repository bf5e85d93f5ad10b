"""Features of DINOv2, DINOv3, CLIP and SigLIP, ViT-B each, as the target; timm has the models. A config merges one.

The weights are state dicts with timm's names, such as ``model.safetensors`` of timm's models on the Hugging Face Hub.
"""


def _teacher(model_name, checkpoint, **settings):
    init_cfg = dict(type="Pretrained", checkpoint=checkpoint, revise_keys=[("^", "timm_model.")])
    return dict(type="mmpretrain.TIMMBackbone", model_name=model_name, init_cfg=init_cfg, **settings)


def _target(teacher, stride, **normalisation):
    return dict(
        target_generator=dict(
            _delete_=True, type="maskfeat.TeacherGenerator", teacher=teacher, stride=stride, **normalisation
        ),
        neck=dict(out_channels=768),
        head=dict(loss=dict(kind="cosine")),
    )


# 14 x 14 tokens of 16 pixels are 196 x 196 pixels with patches of 14. Its positions are resized in each pass.
dinov2 = _target(
    _teacher("vit_base_patch14_dinov2", "data/targets/vit_base_patch14_dinov2.safetensors", dynamic_img_size=True), 14
)
dinov3 = _target(_teacher("vit_base_patch16_dinov3", "data/targets/vit_base_patch16_dinov3.safetensors"), 16)
clip = _target(
    _teacher("vit_base_patch16_clip_quickgelu_224", "data/targets/vit_base_patch16_clip_quickgelu_224.safetensors"),
    16,
    mean=[122.7709383, 116.7460125, 104.09373615],
    std=[68.5005327, 66.6321579, 70.32316305],
)
siglip = _target(
    _teacher("vit_base_patch16_siglip_224", "data/targets/vit_base_patch16_siglip_224.safetensors"),
    16,
    mean=127.5,
    std=127.5,
)

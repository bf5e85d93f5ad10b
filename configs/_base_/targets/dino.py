"""Features of DINO's ViT-B/16, as the target. A config merges its model."""

dino = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TeacherGenerator",
        teacher=dict(
            type="mmpretrain.VisionTransformer",
            arch="base",
            img_size=224,
            patch_size=16,
            out_type="featmap",
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/targets/dino_vitbase16_pretrain.pth",
                # names of DINO's release -> names of mmpretrain
                revise_keys=[
                    (r"^blocks\.", "layers."),
                    (r"\.norm(\d)\.", r".ln\1."),
                    (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
                    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
                    (r"^patch_embed\.proj\.", "patch_embed.projection."),
                    (r"^norm\.", "ln1."),
                ],
            ),
        ),
    ),
    neck=dict(out_channels=768),
    head=dict(loss=dict(kind="cosine")),
)

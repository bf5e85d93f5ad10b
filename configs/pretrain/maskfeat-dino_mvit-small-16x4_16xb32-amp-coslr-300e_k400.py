"""MaskFeat pre-training of MViT-S on Kinetics-400 that predicts the features of a ViT-B/16 of DINO.

The teacher's weights are the backbone alone, ``dino_vitbase16_pretrain.pth``, of DINO's own release; nothing fetches
it by itself.
The recipe with this target is not given by the release notes at hand: it is that of HOG.
"""

_base_ = "./maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py"

model = dict(
    target_generator=dict(
        _delete_=True,
        type="maskfeat.TeacherGenerator",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        teacher=dict(
            type="mmpretrain.VisionTransformer",
            arch="base",
            img_size=224,
            patch_size=16,
            out_type="featmap",
            init_cfg=dict(
                type="Pretrained",
                checkpoint="data/targets/dino_vitbase16_pretrain.pth",
                # from the names of DINO's release to mmpretrain's
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

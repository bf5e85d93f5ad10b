"""Tests of docs/migration.md: examples match our configs, all names exist, and all keys of the authors are listed."""

import re

import mmpretrain.models  # noqa: F401
import pytest
import torch
from examples import ROOT, blocks, read, run, section
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

import maskfeat_plugin.datasets  # noqa: F401
from maskfeat_plugin.config.signatures import parameters
from maskfeat_plugin.registry import MODELS, TRANSFORMS, WEIGHT_INITIALIZERS

PAGE = read("migration.md")
CONFIGS = ROOT / "configs"

# All keys of these groups in the authors' configs of MaskFeat (configs/masked_ssl), and the keys of masks in AUG
AUTHORS_KEYS = {
    "MASK": "ENABLE PRETRAIN_DEPTH HEAD_TYPE PRED_HOG",
    "AUG": "NUM_SAMPLE AA_TYPE RE_PROB GEN_MASK_LOADER MASK_RATIO MASK_TUBE MASK_FRAMES MASK_WINDOW_SIZE",
    "DATA": "USE_OFFSET_SAMPLING DECODING_BACKEND NUM_FRAMES SAMPLING_RATE TRAIN_JITTER_SCALES TRAIN_CROP_SIZE "
    "INPUT_CHANNEL_NUM DECODING_SHORT_SIZE TRAIN_JITTER_SCALES_RELATIVE TRAIN_JITTER_ASPECT_RELATIVE MEAN STD",
    "MVIT": "PATCH_2D DEPTH NUM_HEADS EMBED_DIM PATCH_KERNEL PATCH_STRIDE PATCH_PADDING ZERO_DECAY_POS_CLS QKV_BIAS "
    "DIM_MUL HEAD_MUL POOL_Q_STRIDE POOL_KVQ_KERNEL POOL_KV_STRIDE_ADAPTIVE DROPPATH_RATE CLS_EMBED_ON USE_ABS_POS "
    "SEP_POS_EMBED REL_POS_SPATIAL REL_POS_TEMPORAL RESIDUAL_POOLING MODE MLP_RATIO LAYER_SCALE_INIT_VALUE "
    "USE_MEAN_POOLING HEAD_INIT_SCALE",
    "SOLVER": "CLIP_GRAD_L2NORM BASE_LR COSINE_END_LR MAX_EPOCH WARMUP_EPOCHS WEIGHT_DECAY ZERO_WD_1D_PARAM "
    "WARMUP_START_LR LAYER_DECAY",
    "MIXUP": "ALPHA CUTMIX_ALPHA LABEL_SMOOTH_VALUE",
    "TRAIN": "BATCH_SIZE EVAL_PERIOD CHECKPOINT_PERIOD AUTO_RESUME MIXED_PRECISION",
    "TEST": "NUM_SPATIAL_CROPS NUM_TEMPORAL_CLIPS",
}


def test_every_key_of_the_authors_configs_is_on_the_page():
    # `A.B: value` and `A.B` in tables, A.B in the comments of the example
    found = set(re.findall(r"\b([A-Z]+\.[A-Z0-9_]+)", section(PAGE, "From PySlowFast")))
    assert {f"{group}.{key}" for group, keys in AUTHORS_KEYS.items() for key in keys.split()} <= found


def models_agree(example, config):
    """Check that two models have the same classes, shapes of weights and printed settings; return True."""
    with torch.device("meta"):
        one, two = MODELS.build(example), MODELS.build(config)
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in two.state_dict().items()}
    for name, module in one.named_children():
        assert type(module) is type(getattr(two, name)), name
    assert str(one) == str(two)
    return True


@pytest.mark.parametrize(
    ("title", "number", "config", "scope"),
    [
        ("From PySlowFast", 0, "maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400", "mmaction"),
        ("From mmpretrain's MaskFeat", 0, "maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k", "mmpretrain"),
        ("From projects/maskfeat_video", 0, "maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400", "mmaction"),
    ],
)
def test_example_of_pretraining_is_the_model_of_our_config(title, number, config, scope):
    example = run(blocks(section(PAGE, title))[number])
    ours = Config.fromfile(CONFIGS / "pretrain" / f"{config}.py")
    gaussian_window = example["model"]["target_generator"].get("gaussian_window", 0)
    assert gaussian_window == (0 if title == "From PySlowFast" else 16)  # OpenMMLab has this window, the authors do not
    with DefaultScope.overwrite_default_scope(scope):
        assert models_agree(example["model"], ours.model)
        transforms = Compose(example["train_pipeline"]).transforms
        own = Compose(ours.train_pipeline).transforms
    (mask,) = (t({})["mask"] for t in transforms if type(t).__name__.endswith("MaskGenerator"))
    (own_mask,) = (t({})["mask"] for t in own if type(t).__name__.endswith("MaskGenerator"))
    assert mask.shape == own_mask.shape and mask.sum() == own_mask.sum()
    if title == "From PySlowFast":
        assert [type(t) for t in transforms] == [type(t) for t in own]


def test_example_of_finetuning_builds():
    model = run(blocks(section(PAGE, "Checkpoints of PySlowFast"))[0])["model"]
    assert WEIGHT_INITIALIZERS.build(model["backbone"].pop("init_cfg")).checkpoint.endswith(".pyth")
    ours = Config.fromfile(CONFIGS / "recognition" / "mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py").model
    ours.backbone.pop("init_cfg")
    with torch.device("meta"):
        one, two = MODELS.build(model["backbone"]), MODELS.build(dict(ours.backbone, drop_path_rate=0.0))
    assert {k: v.shape for k, v in one.state_dict().items()} == {k: v.shape for k, v in two.state_dict().items()}
    assert model["type"] == ours.type and model["cls_head"].items() <= dict(ours.cls_head).items()
    with DefaultScope.overwrite_default_scope("mmaction"):
        MODELS.build(model["cls_head"])


def configs_in(row):
    """Yield the configs in the cells of a table's row."""
    for text in re.findall(r"dict\(type=\"[^`]+\)", row):
        if "..." not in text:
            yield eval(text, dict(FILE="a.pth", FILE_OR_URL="a.pth"))  # safe: the text comes from our own page


def test_configs_in_tables_have_keys_that_exist():
    """Build our configs and look up mmpretrain's keys, since a key that never existed would mislead readers."""
    built = 0
    for row in re.findall(r"^\|.+\|$", PAGE, re.MULTILINE):
        for config in configs_in(row):
            name = config["type"]
            if name.startswith("maskfeat."):
                registries = {"Pretrained": WEIGHT_INITIALIZERS} | dict.fromkeys(TRANSFORMS.module_dict, TRANSFORMS)
                registry = registries.get(name.removeprefix("maskfeat."), MODELS)
                with torch.device("meta" if registry is MODELS else "cpu"):
                    registry.build(config)
                built += 1
    assert built >= 10
    for row in section(PAGE, "From mmpretrain's MaskFeat").splitlines():
        for config in configs_in(row):
            name = config["type"]
            if "." not in name and name != "Pretrained":
                cls = MODELS.get(f"mmpretrain.{name}") or TRANSFORMS.get(f"mmpretrain.{name}")
                assert set(config) - {"type"} <= set(parameters(cls)), config


def test_key_paths_in_tables_are_keys():
    """Check that paths such as `backbone.with_cp`, beside the authors' keys, are arguments of the components."""
    names = {
        "backbone": "maskfeat.MaskedMViT",
        "target_generator": "maskfeat.PixelGenerator",
        "neck": "maskfeat.RegressionNeck",
        "decoder": "maskfeat.MAEDecoder",
        "cls_head": "mmaction.MViTHead",
    }
    cells = re.findall(r"`(backbone|target_generator|neck|decoder|cls_head)\.(\w+)", section(PAGE, "From PySlowFast"))
    assert len(cells) >= 8
    for part, key in cells:
        cls = MODELS.get(names[part])
        # MViTHead passes all other arguments to its base class
        assert key == "type" or key in parameters(cls), (part, key)

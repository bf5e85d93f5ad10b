"""Model card of converted weights: their origin, and the code that loads them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .architecture import ViTSettings
from .formats import PRETRAIN
from .reader import Checkpoint
from .safe_files import is_safetensors

WRITER = "maskfeat convert"  # marks every file that is written together with weights

_LIBRARIES = dict(
    maskfeat="maskfeat_plugin",
    mmpretrain="mmpretrain",
    mmaction2="mmaction2",
    slowfast="PySlowFast",
    timm="timm",
    hf="transformers",
    torchvision="torchvision",
)


def model_card(
    checkpoint: Checkpoint,
    path: Path,
    block: Mapping[str, Any],
    config: Config | None = None,
    vit: ViTSettings | None = None,
) -> str:
    """Compose the model card of converted weights.

    Args:
        checkpoint (Checkpoint): The weights.
        path (Path): The file that they are written to.
        block (Mapping[str, Any]): Metadata of this file.
        config (Config, optional): Config that the model was trained with. Defaults to None.
        vit (ViTSettings, optional): Settings of the model for other libraries. Defaults to None.

    Returns:
        str: Markdown, at most 40 lines.
    """
    library = _LIBRARIES[block["target"]]
    what = "pre-trained with MaskFeat" if checkpoint.task == PRETRAIN else "fine-tuned"
    model = "ViT of images" if checkpoint.family == "vit" else "MViT of clips"
    rows = {
        "Source": f"`{block['source']}`, {checkpoint.format.title}",
        "SHA-256 of the source": f"`{block['sha256']}`" if block["sha256"] else "not known",
        "Weights": what,
        "Names of": library,
        **({} if config is None else _training(config)),
        "License": "not known; ask the author of the source, and set it above",
        "Written by": f"`{WRITER}` {block['version']}, {block['time']}",
    }
    lines = [
        "---",
        "license: unknown",
        f"library_name: {library}",
        f"tags: [maskfeat, {'vit' if checkpoint.family == 'vit' else 'mvit'}]",
        "---",
        "",
        f"# {path.stem if path.stem != 'model' else path.resolve().parent.name}",
        "",
        f"A {model}, {what}, for {library}.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in rows.items()),
        "",
        "## Load it",
        "",
        "```python",
        *_loading(checkpoint, path, block["target"], config, vit),
        "```",
    ]
    return "\n".join(lines) + "\n"


def _training(config: Config) -> dict[str, str]:
    """Rows of a config: nothing that it does not say."""
    train, norm = config.get("train_dataloader", {}), config.get("model", {}).get("data_preprocessor", {})
    ratio, root = (next(_values(train, key), None) for key in ("mask_ratio", "data_root"))
    rows = {
        "Config": f"`{Path(config.filename or 'unnamed').stem}`",
        "Mask ratio": ratio,
        # the last folder alone: the others are of the machine
        "Data": f"`{Path(root).name}`" if root else None,
        "Input": ", ".join(f"{key} {norm[key]}" for key in ("mean", "std") if key in norm)
        + (", RGB" if norm.get("to_rgb") else "")
        if norm
        else None,
    }
    return {name: str(value) for name, value in rows.items() if value}


def _values(part: Any, key: str) -> Iterator[Any]:
    """Find the values of a key anywhere in a config."""
    if isinstance(part, Mapping):
        if key in part:
            yield part[key]
        part = list(part.values())
    if isinstance(part, list | tuple):
        for inner in part:
            yield from _values(inner, key)


def _loading(checkpoint: Checkpoint, path: Path, to: str, config: Config | None, vit: ViTSettings | None) -> list[str]:
    name, state = path.name, checkpoint.state
    if to == "maskfeat":
        if config is not None:
            return ["from maskfeat_plugin.apis import from_pretrained", "", f'model = from_pretrained("{name}")']
        call = f'model = get_model("CONFIG", pretrained="{name}")  # CONFIG: a name of list_models() or a config file'
        return ["from maskfeat_plugin.apis import get_model", "", call]
    if to in ("mmpretrain", "mmaction2"):
        return [
            "# in a config, with the settings of this model",
            f'backbone=dict(..., init_cfg=dict(type="Pretrained", checkpoint="{name}"))',
        ]
    if to == "slowfast":
        return ["# in a config of PySlowFast", f'cfg.TRAIN.CHECKPOINT_FILE_PATH = "{name}"']
    if to == "hf":
        headed = bool(vit and vit.num_classes)
        kind = "ViTForImageClassification" if headed else "ViTModel"
        mask = ", use_mask_token=True" if "backbone.mask_token" in state else ""
        options = "" if headed else f", add_pooling_layer=False{mask}"
        return [
            f"from transformers import {kind}",
            "",
            f'model = {kind}.from_pretrained("FOLDER"{options})  # the folder of {name}',
        ]
    imports, read = ("import torch", f'torch.load("{name}", weights_only=True)["state_dict"]')
    if is_safetensors(path):
        imports, read = ("from safetensors.torch import load_file", f'load_file("{name}")')
    library, *build = _timm(state, vit) if to == "timm" and vit else _torchvision(state)
    return [imports, library, "", *build, f"model.load_state_dict({read})"]


def _timm(state: Mapping[str, Any], vit: ViTSettings) -> list[str]:
    options = dict(
        img_size=vit.image_size,
        patch_size=vit.patch_size,
        in_chans=vit.in_channels,
        num_classes=vit.num_classes,
        embed_dim=vit.width,
        depth=vit.depth,
        num_heads=vit.num_heads,
        mlp_ratio=vit.mlp_width / vit.width,
        qkv_bias=vit.qkv_bias,
        global_pool="avg" if "backbone.ln2.weight" in state or "backbone.cls_token" not in state else "token",
    )
    if "backbone.cls_token" not in state:
        options |= dict(class_token=False, fc_norm="backbone.ln2.weight" in state)
    if not {"backbone.ln1.weight", "backbone.ln2.weight"} & state.keys():
        options |= dict(final_norm=False)
    if any(name.endswith(".gamma1.weight") for name in state):
        options |= dict(init_values=1.0)
    call = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return ["from timm.models import VisionTransformer", f"model = VisionTransformer({call})"]


def _torchvision(state: Mapping[str, Any]) -> list[str]:
    lines = ["from torchvision.models.video import mvit_v2_s"]
    classifier = state.get("cls_head.fc_cls.weight")
    if classifier is None:
        return [*lines, "model = mvit_v2_s()", "del model.head[1]  # features of the class token"]
    note = "  # classifies by the class token (out_type='featmap')"
    return [*lines, f"model = mvit_v2_s(num_classes={len(classifier)}){note}"]

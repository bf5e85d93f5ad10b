"""Recognition of the project that wrote a state dict, by the names of its keys."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import yaml
from torch import Tensor

from . import names
from .errors import CheckpointError
from .names import NameTable, inner_name
from .refused import refuse_by_name

PRETRAIN, FINETUNE = "pretrain", "finetune"


@dataclass(frozen=True)
class Format:
    """Format of a state dict: the names that a project gives to the parameters of one model family.

    Attributes:
        name: Short name for logs and metadata.
        title: Name for users.
        family: "vit" or "mvit".
        project: "slowfast", "timm", "torchvision", "transformers", "mmpretrain", "mmselfsup", "mmaction2" or
            "maskfeat".
        matches: Function that checks whether keys (without the prefix ``backbone.``) have this format. Formats are
            tried in order.
        table: Name table, or a function that builds it from the index of the last scale.
    """

    name: str
    title: str
    family: str
    project: str
    matches: Callable[[Collection[str]], bool]
    table: NameTable | Callable[[int], NameTable]

    def names(self, last_scale: int = 3) -> NameTable:
        """Return the name table. ``last_scale`` matters if the name of the final norm does not contain its scale."""
        return self.table if isinstance(self.table, NameTable) else self.table(last_scale)


def _any(keys: Collection[str], pattern: str) -> bool:
    found = re.compile(pattern).match
    return any(found(key) for key in keys)


def _all(*patterns: str) -> Callable[[Collection[str]], bool]:
    """Build a test that each pattern matches the beginning of some key."""
    return lambda keys: all(_any(keys, pattern) for pattern in patterns)


_SLOWFAST = r"patch_embed\.proj\."
_POOLED = r"blocks\.\d+\.attn\.pool_q\."
_VIT_BLOCKS = r"blocks\.\d+\.mlp\.fc1\."
_OPENMMLAB = r"patch_embed\.projection\."
_VIT_LAYERS = r"layers\.\d+\.ln1\."
_PREDICTION = r"neck\.fc\.|mask_token"
_OLD_MMSELFSUP = r"head\.head\.|head\.predictor\.|hog_layer\."
_HOG_BUFFERS = r"target_generator\.weight_[xy]"


def _is_timm(keys: Collection[str]) -> bool:
    """Check whether a ViT has timm's names and not PySlowFast's: only the names of the last layers differ."""
    if _any(keys, r"pred_head\.|head\.projection\."):
        return False
    # the authors' pre-training without its prediction layer has a mask token and no final norm
    return not _any(keys, "mask_token") or _any(keys, r"norm\.|fc_norm\.|blocks\.\d+\.(ls1\.gamma|gamma_1)")


FORMATS: tuple[Format, ...] = (
    Format(
        "slowfast-mvit-pretrain",
        "PySlowFast MaskFeat pre-training, MViT",
        "mvit",
        "slowfast",
        _all(_SLOWFAST, _POOLED, r"pred_head\.|mask_token"),
        lambda last_scale: names.slowfast_mvit(PRETRAIN, last_scale),
    ),
    Format(
        "slowfast-mvit-finetune",
        "PySlowFast fine-tuning, MViT",
        "mvit",
        "slowfast",
        _all(_SLOWFAST, _POOLED),
        lambda last_scale: names.slowfast_mvit(FINETUNE, last_scale),
    ),
    Format(
        "mae-vit-pretrain",
        "MAE pre-training with its decoder, ViT",
        "vit",
        "timm",
        _all(_SLOWFAST, _VIT_BLOCKS, r"decoder_embed\.|decoder_blocks\."),
        names.TIMM_VIT,
    ),
    Format(
        "timm-vit",
        "ViT with the names of timm (timm, MAE, DeiT, DINO and DINOv2)",
        "vit",
        "timm",
        lambda keys: _all(_SLOWFAST, _VIT_BLOCKS)(keys) and _is_timm(keys),
        names.TIMM_VIT,
    ),
    Format(
        "torchvision-vit",
        "torchvision ViT",
        "vit",
        "torchvision",
        _all(r"conv_proj\.", r"encoder\.layers\.encoder_layer_\d+\.self_attention\."),
        names.TORCHVISION_VIT,
    ),
    Format(
        "torchvision-mvit",
        "torchvision MViTv2",
        "mvit",
        "torchvision",
        _all(r"conv_proj\.", r"blocks\.\d+\.attn\.pool_q\.pool\."),
        names.torchvision_mvit,
    ),
    Format(
        "hf-vit",
        "Hugging Face's transformers, ViT",
        "vit",
        "transformers",
        _all(r"embeddings\.patch_embeddings\.", r"encoder\.layer\.\d+\."),
        names.HF_VIT,
    ),
    Format(
        "slowfast-vit-pretrain",
        "PySlowFast MaskFeat pre-training, ViT",
        "vit",
        "slowfast",
        _all(_SLOWFAST, _VIT_BLOCKS, r"pred_head\.|mask_token"),
        names.SLOWFAST_VIT_PRETRAIN,
    ),
    Format(
        "slowfast-vit-finetune",
        "PySlowFast fine-tuning, ViT",
        "vit",
        "slowfast",
        _all(_SLOWFAST, _VIT_BLOCKS),
        names.SLOWFAST_VIT_FINETUNE,
    ),
    Format(
        "mmselfsup-mvit",
        "mmselfsup MaskFeat, MViT (project maskfeat_video)",
        "mvit",
        "mmselfsup",
        _all(_OPENMMLAB, _POOLED, f"{_OLD_MMSELFSUP}|{_HOG_BUFFERS}"),
        names.OPENMMLAB_MVIT,
    ),
    Format(
        "maskfeat-mvit",
        "maskfeat_plugin MaskFeat, MViT",
        "mvit",
        "maskfeat",
        _all(_OPENMMLAB, _POOLED, _PREDICTION),
        names.OPENMMLAB_MVIT,
    ),
    Format(
        "mmaction2-mvit",
        "mmaction2 MViT",
        "mvit",
        "mmaction2",
        _all(_OPENMMLAB, _POOLED),
        names.OPENMMLAB_MVIT,
    ),
    Format(
        "mmselfsup-vit",
        "mmselfsup MaskFeat before 1.0, ViT",
        "vit",
        "mmselfsup",
        _all(_OPENMMLAB, _VIT_LAYERS, _OLD_MMSELFSUP),
        names.OPENMMLAB_VIT,
    ),
    Format(
        "mmpretrain-maskfeat",
        "mmpretrain or mmselfsup 1.x MaskFeat, ViT",
        "vit",
        "mmpretrain",
        _all(_OPENMMLAB, _VIT_LAYERS, _HOG_BUFFERS),
        names.OPENMMLAB_VIT,
    ),
    Format(
        "maskfeat-vit",
        "maskfeat_plugin MaskFeat, ViT",
        "vit",
        "maskfeat",
        _all(_OPENMMLAB, _VIT_LAYERS, _PREDICTION),
        names.OPENMMLAB_VIT,
    ),
    Format(
        "mmpretrain-vit",
        "mmpretrain ViT",
        "vit",
        "mmpretrain",
        _all(_OPENMMLAB, _VIT_LAYERS),
        names.OPENMMLAB_VIT,
    ),
    Format(
        "mmaction2-vit",
        "mmaction2 ViT of clips (VideoMAE)",
        "vit",
        "mmaction2",
        _all(_OPENMMLAB, r"blocks\.\d+\.mlp\.layers\.0\.0\."),
        names.MMACTION2_VIT,
    ),
)

# Tensors in checkpoints that are not parameters: a pattern for the beginning of the name, and the kind of tensor.
NOT_PARAMETERS: tuple[tuple[str, str], ...] = (
    (r"hogs\.|hog_layer\.|target_generator\.(weight_[xy]|gaussian_kernel)$", "constant of the HOG target"),
    (r"target_generator\.", "part of the target generator"),
    (r"data_preprocessor\.", "constant of the preprocessing"),
    (r"decoder_(embed|pos_embed|blocks|norm|pred)\b", "decoder of MAE's pre-training"),
    (r"(backbone\.)?(mask_token|masked_embed)$", "mask token of another pre-training"),
    (r"pooler\.dense\.", "pooling layer of transformers"),
    (r"(dino_|ibot_)?head\.(mlp|last_layer)\.", "projection head of DINO's pre-training"),
)


def recognise(keys: Collection[str], source: str, slowfast: bool = False) -> Format:
    """Find the format of a state dict.

    Args:
        keys (Collection[str]): Keys of the state dict, with or without the prefix ``backbone.``.
        source (str): Name of the state dict, for the message.
        slowfast (bool): Whether PySlowFast wrote the file, which its keys may not show. Defaults to False.

    Returns:
        Format: The first of :data:`FORMATS` that matches.

    Raises:
        CheckpointError: If no format matches, or the model cannot be converted.
    """
    refuse_by_name(keys, source)
    inner = {inner_name(key) for key in keys}
    for form in FORMATS:
        if form.matches(inner) and not (slowfast and form.project == "timm"):
            return form
    some = ", ".join(sorted(keys)[:5]) or "none"
    known = "\n".join(f"  {form.name}: {form.title}" for form in FORMATS)
    raise CheckpointError(
        f"{source}: no known format has its key names (first of {len(keys)}: {some}). Known formats:\n{known}"
    )


def reason_to_drop(key: str) -> str | None:
    """Return the reason why a key that is not a parameter may be dropped, None if it is unknown."""
    for pattern, reason in NOT_PARAMETERS:
        if re.match(pattern, key):
            return reason
    return None


def last_scale_of(state: Mapping[str, Tensor], cfg: str | None = None) -> int:
    """Return the index of an MViT's last scale, from PySlowFast's config if there is one, else from the weights.

    Every spatial stride halves the number of relative positions. A stride in the last block is visible only in the
    config.

    Args:
        state (Mapping[str, Tensor]): State dict with PySlowFast's key names.
        cfg (str, optional): The YAML text that PySlowFast stores. Defaults to None.

    Returns:
        int: Number of spatial strides after the patch embedding.
    """
    try:
        strides = yaml.safe_load(cfg)["MVIT"]["POOL_Q_STRIDE"] if cfg else []
        if strides:
            return sum(1 for _, *stride in strides if max(stride[1:]) > 1)
    except Exception:  # the text is not a config of PySlowFast: use the weights
        pass
    lengths = {}
    for key, value in state.items():
        match = re.fullmatch(r"blocks\.(\d+)\.attn\.rel_pos_h", inner_name(key))
        if match:
            lengths[int(match.group(1))] = len(value)
    ordered = [lengths[i] for i in sorted(lengths)]
    return sum(b < a for a, b in zip(ordered, ordered[1:], strict=False))

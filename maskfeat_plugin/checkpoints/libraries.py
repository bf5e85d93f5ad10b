"""Conversion targets outside OpenMMLab: equivalent models of timm, transformers and torchvision."""

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

from torch import Tensor

from . import names
from .errors import CheckpointError
from .layer_scale import is_layer_scale
from .reader import Checkpoint
from .variants import flat_class_token, separate_qkv


class Target(NamedTuple):
    """Target of a conversion: the names that another project gives to weights.

    Attributes:
        rename: Function that returns the project's name for a canonical name, None if there is none.
        why_left_out: Reason for tensors without a name.
        made: Additional tensors that the project needs.
        pieces: Function that splits a tensor into the tensors that the project's file has instead.
    """

    rename: Callable[[str], str | None]
    why_left_out: str = ""
    made: dict[str, Tensor] = {}  # noqa: RUF012 - never changed
    pieces: Callable[[str, Tensor], dict[str, Tensor]] = lambda name, value: {name: value}


def timm(checkpoint: Checkpoint) -> Target:
    """Return the names of ``timm.models.VisionTransformer``.

    Raises:
        CheckpointError: If the weights are not of an image ViT, or timm has no such model.
    """
    title = "timm's VisionTransformer"
    _check_images(checkpoint, title)
    if {"backbone.ln1.weight", "backbone.ln2.weight"} <= checkpoint.state.keys():
        raise CheckpointError(
            f"{checkpoint.source} has a norm before and one after mean pooling (ln1, ln2), but {title} has only one of "
            "them. Set backbone.final_norm=False, as in MaskFeat's fine-tuning, or convert it to 'maskfeat'."
        )
    return _exact(checkpoint, Target(names.TIMM_VIT.from_canonical), title)


def hf(checkpoint: Checkpoint) -> Target:
    """Return the names of transformers' ``ViTModel``, or of ``ViTForImageClassification`` if there is a classifier.

    Raises:
        CheckpointError: If the weights are not of an image ViT, or transformers has no such model.
    """
    title = "the ViT of transformers"
    _check_images(checkpoint, title)
    if "backbone.ln2.weight" in checkpoint.state:
        raise CheckpointError(
            f"{checkpoint.source} has a norm after mean pooling (ln2), but {title} classifies by its class token. "
            "Convert it to 'timm', or convert the pre-trained model."
        )
    prefix = "vit." if "head.fc.weight" in checkpoint.state else ""

    def rename(name: str) -> str | None:
        new = names.HF_VIT.from_canonical(name)
        if prefix and name == "backbone.mask_token":
            return None
        return new if new is None or name.startswith("head.") else prefix + new

    target = Target(rename, pieces=separate_qkv)
    return _exact(checkpoint, target, title, ("cls_token", "pos_embed", "ln1.weight"))


def torchvision(checkpoint: Checkpoint) -> Target:
    """Return the names of ``torchvision.models.video.mvit_v2_s``.

    Raises:
        CheckpointError: If the weights are not of an MViT, or torchvision has no such model.
    """
    title = "torchvision's mvit_v2_s"
    if checkpoint.family != "mvit":
        raise CheckpointError(f"{checkpoint.source} holds a ViT, but {title} is an MViT. Convert it to 'timm' or 'hf'.")
    for name, weight in checkpoint.state.items():
        block = re.fullmatch(r"(backbone\.blocks\.\d+)\.proj\.weight", name)
        if block and len(checkpoint.state[f"{block[1]}.attn.qkv.weight"]) != 3 * len(weight):
            raise CheckpointError(
                f"{checkpoint.source} doubles the channels in the MLP, as MaskFeat's architectures do, but {title} "
                "doubles them in the attention. Only a model with backbone.dim_mul_in_attention=True can be converted; "
                "for this one use 'maskfeat', 'mmaction2' or 'slowfast'."
            )
    scale = checkpoint.last_scale or 0
    target = Target(names.torchvision_mvit(scale).from_canonical, pieces=flat_class_token)
    return _exact(checkpoint, target, title, ("cls_token", f"norm{scale}.weight", "blocks.0.attn.rel_pos_t"))


def _check_images(checkpoint: Checkpoint, title: str) -> None:
    kernel = checkpoint.state.get("backbone.patch_embed.projection.weight")
    if checkpoint.family != "vit":
        raise CheckpointError(f"{checkpoint.source} holds an MViT, not {title}. Convert it to 'torchvision'.")
    if kernel is not None and kernel.dim() == 5:
        raise CheckpointError(f"{checkpoint.source} holds a ViT of clips, but {title} is for images. Use 'maskfeat'.")


def _exact(checkpoint: Checkpoint, target: Target, title: str, needed: Collection[str] = ()) -> Target:
    """Return the target, after checking that it can hold the whole backbone and that no needed part is missing."""
    state = checkpoint.state
    backbone = [name for name in state if name.startswith("backbone.") and name != "backbone.mask_token"]
    more = [name for name in backbone if target.rename(name) is None and not is_layer_scale(name)]
    missing = [name for name in needed if f"backbone.{name}" not in state]
    if more or missing:
        what = f"has {', '.join(names.collapse(more))}, which {title} lacks" if more else f"lacks {missing[0]}"
        raise CheckpointError(
            f"{checkpoint.source} {what}. The converted model would compute something else; convert it to 'maskfeat'."
        )
    return target._replace(why_left_out=f"{title} has no such parameter")

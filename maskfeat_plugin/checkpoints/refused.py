"""Models of other projects that are refused by their key names, because partly loaded they compute something else."""

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from .errors import CheckpointError
from .names import HF_VIT, inner_name, torchvision_mvit

# Pattern for the beginning of a key, name of the model, and the part that the key belongs to.
_REFUSED: tuple[tuple[str, str, str], ...] = (
    (r"dist_token|head_dist\.", "DeiT with distillation", "a distillation token"),
    (r".*\brelative_position_bias_table|rel_pos_bias\.", "BEiT, data2vec or Swin", "a relative position bias"),
    (r"register_tokens|reg_token", "DINOv2 with registers", "register tokens"),
    (
        r"(visual\.)?(class_embedding|ln_pre\.|transformer\.resblocks\.)|norm_pre\.|pre_norm\.",
        "CLIP",
        "a norm before it",
    ),
    (r"(.*\.)?(embeddings\.patch_embeddings|encoder\.layer\.\d+)\.", "Hugging Face's transformers", "other layers"),
    (r"encoder\.blocks\.\d+\.", "VideoMAE's pre-training", "an encoder and a decoder"),
    (r"blocks\.\d+\.mlp\.(w12|w1|w3|fc1_g)\.", "a ViT with SwiGLU", "gated layers"),
    (r"blocks\.\d+\.attn\.[qk]_norm\.", "a ViT with norms of queries and keys", "these norms"),
    (r"stages\.\d+\.blocks\.\d+\.attn\.(pool_|norm_|rel_pos)", "timm's MViT", "other layers"),
    (r"patch_embed\.patch_model\.|cls_positional_encoding\.", "PyTorchVideo's MViT", "other layers"),
    (r"blocks\.\d+\.attn\.pool_[qkv]\.(pool|norm_act)\.", "torchvision's MViT", "other layers"),
)


def refuse_by_name(keys: Collection[str], source: str) -> None:
    """Refuse the weights of models that are known and cannot be converted exactly.

    Args:
        keys (Collection[str]): Keys of a state dict, with or without the prefix ``backbone.``.
        source (str): Name of the state dict, for the message.

    Raises:
        CheckpointError: If the weights belong to such a model.
    """
    inner = {inner_name(key) for key in keys}
    inner -= _plain_parts(inner)
    for pattern, title, part in _REFUSED:
        found = next((key for key in sorted(inner) if re.match(pattern, key)), None)
        if found:
            raise CheckpointError(
                f"{source} is of {title}: its {found} belongs to {part}, which the models here lack. Give weights of "
                "a plain ViT or MViT, or use a model of that project."
            )
    kinds = {re.sub(r"\d+", "0", key) for key in inner}
    if (
        "blocks.0.proj.weight" in kinds
        and "blocks.0.mlp.fc1.weight" in kinds
        and "blocks.0.attn.pool_q.weight" not in kinds
    ):
        raise CheckpointError(
            f"{source} is of Hiera, whose blocks widen and pool; give weights of a plain ViT or MViT."
        )


def _plain_parts(inner: Collection[str]) -> set[str]:
    """Return the layer keys of transformers' ViT or torchvision's MViTv2, if all their layers are plain ones."""
    separate = r"(?<=attention\.attention\.)(query|key|value)\b"
    fused = {key: re.sub(separate, "qkv", key.removeprefix("vit.")) for key in inner}
    parts = {key: name for key, name in fused.items() if name.startswith(("embeddings.", "encoder."))}
    if _HF_PARTS <= set(parts.values()) and all(HF_VIT.to_canonical(name) for name in parts.values()):
        return set(parts)
    blocks = {key for key in inner if key.startswith(("conv_proj.", "pos_encoding.", "blocks."))}
    if _MVIT_PARTS <= blocks and all(torchvision_mvit(0).to_canonical(key) for key in blocks):
        return blocks
    return set()


_HF_PARTS = {"embeddings.cls_token", "embeddings.position_embeddings", "encoder.layer.0.attention.attention.qkv.weight"}
_MVIT_PARTS = {"conv_proj.weight", "pos_encoding.class_token", "blocks.0.attn.rel_pos_h"}


def refuse_by_shape(state: Mapping[str, Tensor], source: str) -> None:
    """Refuse ViTs that have the key names of a plain ViT but compute something else.

    Args:
        state (Mapping[str, Tensor]): Canonical names and tensors of a ViT with timm's names.
        source (str): Name of the state dict, for the message.

    Raises:
        CheckpointError: If it is not a plain ViT.
    """
    kernel = state.get("backbone.patch_embed.projection.weight")
    first, second = (state.get(f"backbone.layers.0.ffn.layers.{name}.weight") for name in ("0.0", "1"))
    what = ""
    if kernel is not None and kernel.dim() == 4 and "backbone.pos_embed" not in state:
        what = "has no pos_embed: it is of a ViT with relative or rotary positions"
    elif first is not None and second is not None and first.shape[0] != second.shape[1]:
        what = "has MLPs whose first layer is wider than the second: it is of a ViT with gated layers (SwiGLU)"
    if what:
        raise CheckpointError(f"{source} {what}, which the models here lack. Give weights of a plain ViT.")

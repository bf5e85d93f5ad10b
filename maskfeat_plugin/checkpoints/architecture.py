"""Settings of a ViT that other libraries need and that a checkpoint does not name."""

import math
from dataclasses import dataclass

from mmengine.config import Config

from .errors import CheckpointError
from .reader import Checkpoint


@dataclass(frozen=True)
class ViTSettings:
    """Settings of a plain ViT for square images.

    Attributes:
        image_size: Height and width in pixels.
        patch_size: Height and width of a token in pixels.
        in_channels: Channels of the images.
        width: Channels of a token.
        depth: Number of layers.
        num_heads: Attention heads.
        mlp_width: Hidden channels of the MLP.
        qkv_bias: Whether query, key and value have a bias.
        num_classes: Outputs of the classifier, 0 without one.
    """

    image_size: int
    patch_size: int
    in_channels: int
    width: int
    depth: int
    num_heads: int
    mlp_width: int
    qkv_bias: bool
    num_classes: int


def vit_settings(checkpoint: Checkpoint, config: Config | None = None) -> ViTSettings:
    """Find the settings of a ViT. The weights determine all of them except the number of heads.

    Args:
        checkpoint (Checkpoint): Weights of an image ViT.
        config (Config, optional): Config of the model, for the number of heads. Defaults to None: use the number of
            heads of mmpretrain's architecture of this size.

    Returns:
        ViTSettings: The settings.

    Raises:
        CheckpointError: If the images or their patches are not square, or the number of heads is unknown.
    """
    state = checkpoint.state
    kernel, mlp = state["backbone.patch_embed.projection.weight"], state["backbone.layers.0.ffn.layers.0.0.weight"]
    positions = state["backbone.pos_embed"].shape[1] - ("backbone.cls_token" in state)
    side = math.isqrt(positions)
    if side * side != positions or kernel.shape[2] != kernel.shape[3]:
        raise CheckpointError(
            f"{checkpoint.source} has {positions} positions and patches of {tuple(kernel.shape[2:])} pixels, but other "
            "libraries support only square images and patches. Convert it to 'maskfeat'."
        )
    width, depth = kernel.shape[0], sum(name.endswith(".attn.qkv.weight") for name in state)
    classifier = state.get("head.fc.weight")
    return ViTSettings(
        image_size=side * kernel.shape[2],
        patch_size=kernel.shape[2],
        in_channels=kernel.shape[1],
        width=width,
        depth=depth,
        num_heads=_num_heads(
            checkpoint, dict(embed_dims=width, num_layers=depth, feedforward_channels=len(mlp)), config
        ),
        mlp_width=len(mlp),
        qkv_bias="backbone.layers.0.attn.qkv.bias" in state,
        num_classes=0 if classifier is None else len(classifier),
    )


def _num_heads(checkpoint: Checkpoint, sizes: dict[str, int], config: Config | None) -> int:
    from mmpretrain.models import VisionTransformer  # only here: it takes seconds

    zoo = VisionTransformer.arch_zoo
    if config is None:
        found = {arch["num_heads"] for arch in zoo.values() if sizes.items() <= arch.items()}
        if len(found) != 1:
            raise CheckpointError(
                f"{checkpoint.source}: weights do not tell the number of heads, and no architecture of mmpretrain has "
                f"{sizes}. Give the config of the model: --config CONFIG."
            )
        return found.pop()
    arch = config.get("model", {}).get("backbone", {}).get("arch", "base")
    settings = zoo.get(arch, {}) if isinstance(arch, str) else arch
    if not sizes.items() <= dict(settings).items():
        raise CheckpointError(
            f"{checkpoint.source} has {sizes}, but the config has backbone.arch={arch!r}. Give the config of this "
            "model."
        )
    return settings["num_heads"]

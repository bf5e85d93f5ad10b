"""Comparison of fine-tuning steps with the models of timm, torchvision and mmpretrain."""

import logging
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn
from torchvision.models.video import mvit_v2_s

from maskfeat_plugin.checkpoints import from_state_dict, load_into
from maskfeat_plugin.registry import MODELS

from .measuring import Comparison
from .peers import normal, training

# Parameter names of torchvision's MViT -> mmaction2's names, applied in this order
_TORCHVISION = (
    (r"^conv_proj\.", "patch_embed.projection."),
    (r"^pos_encoding\.class_token$", "cls_token"),
    (r"^norm\.", "norm3."),
    (r"\.attn\.project\.0\.", ".attn.proj."),
    (r"\.attn\.pool_([qkv])\.pool\.", r".attn.pool_\1."),
    (r"\.attn\.pool_([qkv])\.norm_act\.0\.", r".attn.norm_\1."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    (r"^(blocks\.\d+)\.project\.", r"\1.proj."),
)


class Classifier(nn.Module):
    """Classifier of a backbone and a linear layer with the peer's number of classes.

    Args:
        backbone (nn.Module): The backbone.
        features (Callable[[tuple], Tensor]): Selects the features (N, C) from the backbone's outputs.
        head (nn.Linear): The peer's linear layer. Its weights are copied.
    """

    def __init__(self, backbone: nn.Module, features: Callable[[tuple], Tensor], head: nn.Linear) -> None:
        super().__init__()
        self.backbone = backbone
        self.features = features
        self.head = nn.Linear(head.in_features, head.out_features)
        self.head.load_state_dict(head.state_dict())

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits (N, K) of images or clips."""
        return self.head(self.features(self.backbone(inputs)))


def image_finetuning(device: torch.device, batch_size: int = 8) -> list[Comparison]:
    """Compare fine-tuning steps of ViT-B with the same weights: forward pass, backward pass and optimizer.

    Args:
        device (torch.device): Device of the steps.
        batch_size (int): Images per step. Defaults to 8.

    Returns:
        list[Comparison]: Comparisons with mmpretrain's ViT and, if timm is installed, with timm's.
    """
    images = normal(batch_size, 3, 224, 224).to(device)
    job = f"ViT-B/16, fine-tuning step, {batch_size} images"
    rows = [_compare(job, "mmpretrain", *mmpretrain_pair(), images)]
    if find_spec("timm") is None:
        print_log(
            "timm is not installed: the row of timm is left out. Run pip install timm.", "current", logging.WARNING
        )
        return rows
    return [*rows, _compare(f"{job}, against timm", "timm", *timm_pair(), images)]


def mmpretrain_pair() -> tuple[nn.Module, nn.Module]:
    """Build ViT-B classifiers with the same weights.

    Returns:
        tuple[nn.Module, nn.Module]: The plugin's and mmpretrain's.
    """
    settings = dict(arch="base", out_type="avg_featmap", final_norm=False)
    backbone = MODELS.build(dict(type="mmpretrain.VisionTransformer", **settings))
    theirs = Classifier(backbone, _last, nn.Linear(768, 1000))
    ours = Classifier(MODELS.build(dict(type="maskfeat.VisionTransformer", **settings)), _last, theirs.head)
    ours.backbone.load_state_dict(theirs.backbone.state_dict())
    return ours, theirs


def timm_pair() -> tuple[nn.Module, nn.Module]:
    """Build ViT-B classifiers with the same weights.

    Returns:
        tuple[nn.Module, nn.Module]: The plugin's and timm's.
    """
    import timm

    theirs = timm.create_model("vit_base_patch16_224", global_pool="avg", num_classes=1000)
    backbone = dict(type="maskfeat.VisionTransformer", arch="base", out_type="avg_featmap", final_norm=False)
    ours = Classifier(MODELS.build(backbone), _last, theirs.head)
    load_into(ours.backbone, from_state_dict(theirs.state_dict(), "timm"), min_found=1.0)
    return ours, theirs


def torchvision_finetuning(device: torch.device, batch_size: int = 1) -> Comparison:
    """Compare fine-tuning steps of MViT-S with the same weights: forward pass, backward pass and optimizer.

    The channels grow in the attention, as in torchvision's model, and the class token gives the features.

    Args:
        device (torch.device): Device of the steps.
        batch_size (int): Clips per step. Defaults to 1.

    Returns:
        Comparison: Comparison with torchvision's ``mvit_v2_s``.
    """
    clips = normal(batch_size, 3, 16, 224, 224).to(device)
    job = f"MViT-S 16 x 4, fine-tuning step, {batch_size} clip{'s' if batch_size > 1 else ''}, against torchvision"
    return _compare(job, "torchvision's mvit_v2_s", *torchvision_pair(), clips)


def torchvision_pair() -> tuple[nn.Module, nn.Module]:
    """Build MViT-S classifiers with the same weights.

    Returns:
        tuple[nn.Module, nn.Module]: The plugin's and torchvision's.
    """
    theirs = mvit_v2_s(dropout=0.0, stochastic_depth_prob=0.0)
    backbone = MODELS.build(dict(type="maskfeat.MViT", arch="small", dim_mul_in_attention=True))
    ours = Classifier(backbone, _class_token, theirs.head[1])
    state = {_rename(name): value for name, value in theirs.state_dict().items() if not name.startswith("head.")}
    backbone.load_state_dict({**state, "cls_token": state["cls_token"].view(1, 1, -1)})
    return ours, theirs


def mmaction_pair() -> tuple[nn.Module, nn.Module]:
    """Build MViT-S classifiers with the same weights.

    Returns:
        tuple[nn.Module, nn.Module]: The plugin's and mmaction2's.
    """
    settings = dict(arch="small", dim_mul_in_attention=True)
    theirs = Classifier(MODELS.build(dict(type="mmaction.MViT", **settings)), _class_token, nn.Linear(768, 400))
    ours = Classifier(MODELS.build(dict(type="maskfeat.MViT", **settings)), _class_token, theirs.head)
    ours.backbone.load_state_dict(theirs.backbone.state_dict())
    return ours, theirs


def bfloat16_rows(device: torch.device) -> Iterator[Comparison]:
    """Compare fine-tuning steps and inference under autocast to bfloat16, which GPUs use, on another device.

    Args:
        device (torch.device): Device of the models.

    Yields:
        Comparison: MViT-S with torchvision and mmaction2, and ViT-B with timm if it is installed.
    """
    clip, images = normal(1, 3, 16, 224, 224).to(device), normal(8, 3, 224, 224).to(device)
    pairs = [
        ("MViT-S 16 x 4, 1 clip", "torchvision's mvit_v2_s", torchvision_pair, clip),
        ("MViT-S 16 x 4, 1 clip, against mmaction2", "mmaction2", mmaction_pair, clip),
    ]
    if find_spec("timm") is not None:
        pairs.append(("ViT-B/16, 8 images", "timm", timm_pair, images))
    for job, peer, build, inputs in pairs:
        ours, theirs = build()
        yield _compare(f"bfloat16, fine-tuning step, {job}", peer, ours, theirs, inputs, bfloat16=True)
        yield Comparison(f"bfloat16, inference, {job}", peer, _inference(ours, inputs), _inference(theirs, inputs))


def _compare(
    job: str, peer: str, ours: nn.Module, theirs: nn.Module, inputs: Tensor, bfloat16: bool | None = None
) -> Comparison:
    labels = torch.arange(len(inputs), device=inputs.device)

    def step(model: nn.Module) -> Callable[[], Tensor]:
        model.to(inputs.device).train()
        return training(model, lambda: F.cross_entropy(model(inputs), labels), inputs.device, bfloat16)

    return Comparison(job, peer, step(ours), step(theirs))


def _inference(model: nn.Module, inputs: Tensor) -> Callable[[], Tensor]:
    @torch.no_grad()
    def infer() -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return model.to(inputs.device).eval()(inputs)

    return infer


def _rename(name: str) -> str:
    for pattern, replacement in _TORCHVISION:
        name = re.sub(pattern, replacement, name)
    return name


def _last(outputs: tuple) -> Tensor:
    return outputs[-1]


def _class_token(outputs: tuple) -> Tensor:
    return outputs[-1][1]

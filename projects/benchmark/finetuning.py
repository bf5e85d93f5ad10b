"""Comparison of fine-tuning steps with the models of timm, torchvision and mmpretrain."""

import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.video import mvit_v2_s

from maskfeat_plugin.checkpoints import from_state_dict, load_into
from maskfeat_plugin.registry import MODELS

from .measuring import Comparison, Work
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
        list[Comparison]: Comparisons with mmpretrain's ViT and with timm's.
    """
    job, size = f"ViT-B/16, fine-tuning step, {batch_size} images", (batch_size, 3, 224, 224)
    return [
        Comparison(job, "mmpretrain", lambda: _steps(mmpretrain_pair, size, device)),
        Comparison(f"{job}, against timm", "timm", lambda: _steps(timm_pair, size, device), _missing_timm()),
    ]


def _missing_timm() -> str:
    return "" if find_spec("timm") else "timm is not installed. Run pip install timm."


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
    job = f"MViT-S 16 x 4, fine-tuning step, {batch_size} clip{'s' if batch_size > 1 else ''}, against torchvision"
    size = (batch_size, 3, 16, 224, 224)
    return Comparison(job, "torchvision's mvit_v2_s", lambda: _steps(torchvision_pair, size, device))


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
        Comparison: MViT-S with torchvision and mmaction2, and ViT-B with timm.
    """
    clip, images = (1, 3, 16, 224, 224), (8, 3, 224, 224)
    for job, peer, build, size, missing in (
        ("MViT-S 16 x 4, 1 clip", "torchvision's mvit_v2_s", torchvision_pair, clip, ""),
        ("MViT-S 16 x 4, 1 clip, against mmaction2", "mmaction2", mmaction_pair, clip, ""),
        ("ViT-B/16, 8 images", "timm", timm_pair, images, _missing_timm()),
    ):
        pair = cache(build)  # both rows use the same models
        steps, inference = partial(_steps, pair, size, device, True), partial(_inferences, pair, size, device)
        yield Comparison(f"bfloat16, fine-tuning step, {job}", peer, steps, missing)
        yield Comparison(f"bfloat16, inference, {job}", peer, inference, missing)


Pair = Callable[[], tuple[nn.Module, nn.Module]]


def _steps(build: Pair, size: tuple[int, ...], device: torch.device, bfloat16: bool | None = None) -> tuple[Work, Work]:
    """Return the training steps of two models."""
    inputs, labels = normal(*size).to(device), torch.arange(size[0], device=device)

    def step(model: nn.Module) -> Work:
        model.to(device).train()
        return training(model, lambda: F.cross_entropy(model(inputs), labels), device, bfloat16)

    ours, theirs = build()
    return step(ours), step(theirs)


def _inferences(build: Pair, size: tuple[int, ...], device: torch.device) -> tuple[Work, Work]:
    """Return the forward passes of two models under autocast to bfloat16."""
    inputs = normal(*size).to(device)

    def inference(model: nn.Module) -> Work:
        @torch.no_grad()
        def infer() -> Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                return model.to(device).eval()(inputs)

        return infer

    ours, theirs = build()
    return inference(ours), inference(theirs)


def _rename(name: str) -> str:
    for pattern, replacement in _TORCHVISION:
        name = re.sub(pattern, replacement, name)
    return name


def _last(outputs: tuple) -> Tensor:
    return outputs[-1]


def _class_token(outputs: tuple) -> Tensor:
    return outputs[-1][1]

"""Comparisons of the benchmark: the plugin against packages that do the same job."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.models.utils import masked_places
from maskfeat_plugin.ops.linear import linear
from maskfeat_plugin.registry import MODELS, TRANSFORMS

from .data import data_comparison
from .data_throughput import shard_comparison
from .finetuning import bfloat16_rows, image_finetuning, torchvision_finetuning
from .measuring import Comparison
from .peers import PeerVideoMaskFeat, image_maskfeat, normal, training
from .plain_masks import cubes_by_loops

BASE_MODELS = configs_folder() / "_base_" / "models"
IMAGE_TOKENS, CLIP_TOKENS = (14, 14), (8, 14, 14)


def comparisons(device: torch.device, folder: Path) -> Iterator[Comparison]:
    """Build all comparisons one after another, because the models are large.

    On a GPU, the models of both sides run under autocast to bfloat16, pre-training has larger batches, and HOG is also
    compared with the memory bandwidth.

    Args:
        device (torch.device): Device of models and tensors.
        folder (Path): Folder for the video that the data pipelines read.

    Yields:
        Comparison: HOG, masks, the data pipeline, linear layers, pre-training, fine-tuning and inference.
    """
    on_gpu = device.type == "cuda"
    yield from hog(device)
    if on_gpu:
        yield hog_bandwidth(device)
    yield from masks()
    yield data_comparison(folder)
    yield shard_comparison(folder)
    if not on_gpu:
        yield linear_layers()
    yield video_pretraining(device, 8 if on_gpu else 1)
    yield from video_finetuning(device)
    yield torchvision_finetuning(device, 8 if on_gpu else 1)
    yield image_pretraining(device, 64 if on_gpu else 8)
    yield from image_finetuning(device, 64 if on_gpu else 8)
    if on_gpu:
        yield compiled_pretraining(device)
        yield fused_optimizer(device)
    else:
        yield from bfloat16_rows(device)


def hog(device: torch.device) -> list[Comparison]:
    """Compare HOG of 16 images, and HOG of the masked tokens of a clip with 16 frames.

    A token of the clip spans 2 frames; the first of them gives the target.

    Args:
        device (torch.device): Device of the tensors.

    Returns:
        list[Comparison]: Comparisons with mmpretrain's generator, which computes all cells.
    """
    images = normal(16, 3, 224, 224).to(device)
    clip = normal(1, 3, 16, 224, 224).to(device)
    frames = clip[:, :, ::2].transpose(1, 2).flatten(0, 1).contiguous()  # (8, 3, 224, 224)
    mask = _clip_masks(1, device)
    ours = MODELS.build(dict(type="maskfeat.HOGGenerator")).to(device)
    theirs = MODELS.build(dict(type="mmpretrain.HOGGenerator", gaussian_window=0)).to(device)
    return [
        Comparison("HOG, 16 images of 224 x 224", "mmpretrain", lambda: ours(images), lambda: theirs(images)),
        Comparison(
            "HOG of the 40 % that are masked, a clip of 16 x 224 x 224",
            "mmpretrain, all cells",
            lambda: ours(clip, mask),
            lambda: theirs(frames)[mask.flatten(2)[0]],
        ),
    ]


def hog_bandwidth(device: torch.device, count: int = 256) -> Comparison:
    """Compare HOG with the least possible memory traffic: read every pixel, write every histogram.

    Args:
        device (torch.device): Device of the tensors.
        count (int): Number of images. Defaults to 256, which are 147 MB, more than the caches of a GPU hold.

    Returns:
        Comparison: Comparison with a copy that reads and writes this number of bytes. A value of 0.5 in the column
        "times faster" means half of the bandwidth.
    """
    images = normal(count, 3, 224, 224).to(device)
    ours = MODELS.build(dict(type="maskfeat.HOGGenerator")).to(device)
    source = torch.zeros(
        (images.numel() + count * 196 * 108) // 2, device=device
    )  # the copy reads this tensor and writes as much
    target = torch.empty_like(source)
    return Comparison(
        f"HOG, {count} images of 224 x 224, and the bandwidth",
        "a copy of as many bytes",
        lambda: ours.hog(images),
        lambda: target.copy_(source),
    )


def masks() -> list[Comparison]:
    """Compare the mask generators of images and clips.

    Returns:
        list[Comparison]: Comparisons with loops over the patches: mmpretrain's generator, and plain Python.
    """
    blocks = TRANSFORMS.build(dict(type="maskfeat.BlockMaskGenerator", token_grid=IMAGE_TOKENS))
    beit = TRANSFORMS.build(
        dict(type="mmpretrain.BEiTMaskGenerator", input_size=14, num_masking_patches=78, min_num_patches=15)
    )
    cubes = TRANSFORMS.build(dict(type="maskfeat.CubeMaskGenerator", token_grid=CLIP_TOKENS))
    return [
        Comparison(
            "1000 block-wise masks of 14 x 14",
            "mmpretrain",
            lambda: [blocks({}) for _ in range(1000)],
            lambda: [beit({}) for _ in range(1000)],
        ),
        Comparison(
            "100 cube masks of 8 x 14 x 14",
            "a loop over the patches",
            lambda: [cubes({}) for _ in range(100)],
            lambda: [dict(mask=cubes_by_loops(CLIP_TOKENS, 0.4)) for _ in range(100)],
        ),
    ]


def linear_layers() -> Comparison:
    """Compare the first linear layer of an MLP of MViT-S on a CPU. The result depends on the processor.

    Returns:
        Comparison: Comparison with torch's linear layer.
    """
    x, weight, bias = normal(1568, 384), normal(1536, 384), normal(1536)

    def repeat(layer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        for _ in range(20):
            y = layer(x, weight, bias)
        return y

    return Comparison(
        "20 linear layers, 1568 x 384 to 1536, forward",
        "torch.nn.functional.linear",
        lambda: repeat(linear),
        lambda: repeat(F.linear),
    )


def video_pretraining(device: torch.device, batch_size: int = 1) -> Comparison:
    """Compare pre-training steps of MViT-S with the same weights: target, forward pass, backward pass and optimizer.

    Args:
        device (torch.device): Device of the steps.
        batch_size (int): Clips per step. Defaults to 1.

    Returns:
        Comparison: Comparison with mmaction2's MViT and mmpretrain's HOG.
    """
    config = Config.fromfile(BASE_MODELS / "maskfeat_mvit-small.py").model
    ours = MODELS.build(config).to(device).train()
    arch = ours.backbone.arch_zoo[config.backbone.arch]
    settings = dict(arch=arch, temporal_size=16, spatial_size=224, dim_mul_in_attention=False, drop_path_rate=0.0)
    theirs = PeerVideoMaskFeat(settings, config.neck.in_channels).to(device).train()
    theirs.backbone.load_state_dict(ours.backbone.state_dict(), strict=False)  # all but the mask token
    theirs.mask_token.data.copy_(ours.backbone.mask_token)
    _copy_parameters(ours.neck, theirs.decoder)
    clips, mask = normal(batch_size, 3, 16, 224, 224).to(device), _clip_masks(batch_size, device)
    return Comparison(
        f"MViT-S 16 x 4, pre-training step, {batch_size} clip{'s' if batch_size > 1 else ''}",
        "mmaction2's MViT, mmpretrain's HOG",
        training(ours, lambda: ours.loss(clips, mask=mask)["loss"], device),
        training(theirs, lambda: theirs(clips, mask), device),
    )


def video_finetuning(device: torch.device) -> list[Comparison]:
    """Compare MViT-S with the same weights: forward and backward pass, and forward pass only.

    Args:
        device (torch.device): Device of the steps.

    Returns:
        list[Comparison]: Comparisons with mmaction2's MViT.
    """
    settings = dict(arch="small", dim_mul_in_attention=False)
    theirs = MODELS.build(dict(type="mmaction.MViT", **settings)).to(device)
    ours = MODELS.build(dict(type="maskfeat.MViT", **settings)).to(device)
    ours.load_state_dict(theirs.state_dict())
    clip = normal(1, 3, 16, 224, 224).to(device)
    return [
        Comparison(
            "MViT-S 16 x 4, fine-tuning, 1 clip, forward and backward",
            "mmaction2",
            lambda: _step(ours, clip),
            lambda: _step(theirs, clip),
        ),
        Comparison(
            "MViT-S 16 x 4, inference, 1 clip",
            "mmaction2",
            lambda: _infer(ours, clip),
            lambda: _infer(theirs, clip),
        ),
    ]


def image_pretraining(device: torch.device, batch_size: int = 8) -> Comparison:
    """Compare pre-training steps of ViT-B with the same weights: target, forward pass, backward pass and optimizer.

    Args:
        device (torch.device): Device of the steps.
        batch_size (int): Images per step. Defaults to 8.

    Returns:
        Comparison: Comparison with mmpretrain's MaskFeat.
    """
    ours = MODELS.build(Config.fromfile(BASE_MODELS / "maskfeat_vit-base-p16.py").model).to(device).train()
    theirs = image_maskfeat().to(device).train()
    ours.backbone.load_state_dict(theirs.backbone.state_dict())
    _copy_parameters(ours.neck, theirs.neck)
    images = normal(batch_size, 3, 224, 224).to(device)
    draw = TRANSFORMS.build(dict(type="maskfeat.BlockMaskGenerator", token_grid=IMAGE_TOKENS, seed=0))
    drawn = [torch.from_numpy(draw({"sample_idx": i})["mask"]).to(device) for i in range(batch_size)]
    samples = [DataSample(mask=mask) for mask in drawn]
    mask = torch.stack(drawn).view(batch_size, 1, *IMAGE_TOKENS)
    return Comparison(
        f"ViT-B/16, pre-training step, {batch_size} images",
        "mmpretrain",
        training(ours, lambda: ours.loss(images, mask=mask)["loss"], device),
        training(theirs, lambda: theirs.loss(images, samples)["loss"], device),
    )


def compiled_pretraining(device: torch.device, batch_size: int = 64, compiler: str = "inductor") -> Comparison:
    """Compare a training step of MaskFeat with ViT-B that is compiled with one that is not.

    Args:
        device (torch.device): Device of the step.
        batch_size (int): Images per step. Defaults to 64.
        compiler (str): Backend of ``torch.compile``. Defaults to "inductor".

    Returns:
        Comparison: Comparison with eager mode.
    """
    eager = MODELS.build(Config.fromfile(BASE_MODELS / "maskfeat_vit-base-p16.py").model).to(device).train()
    compiled = copy.deepcopy(eager)
    compiled.compile(backend=compiler)
    images = normal(batch_size, 3, 224, 224).to(device)
    draw = TRANSFORMS.build(dict(type="maskfeat.BlockMaskGenerator", token_grid=IMAGE_TOKENS, seed=0))
    mask = torch.stack([torch.from_numpy(draw({"sample_idx": i})["mask"]) for i in range(batch_size)])[:, None]
    places = masked_places(mask)
    assert places is not None
    batch = dict(inputs=images, mask=mask.to(device), masked_index=places.index.to(device))
    return Comparison(
        f"ViT-B/16, pre-training step, {batch_size} images, compiled",
        "the same in eager mode",
        training(compiled, lambda: compiled(**batch, mode="loss")["loss"], device),
        training(eager, lambda: eager(**batch, mode="loss")["loss"], device),
    )


def fused_optimizer(device: torch.device) -> Comparison:
    """Compare steps of the fused AdamW of the full-size configs with AdamW's default, for the parameters of ViT-B.

    Args:
        device (torch.device): Device of the parameters.

    Returns:
        Comparison: Comparison of an optimizer's step.
    """

    def step(fused: bool | None = None) -> Callable[[], object]:
        model = MODELS.build(dict(type="maskfeat.VisionTransformer", arch="base")).to(device)
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 1e-3)
        return torch.optim.AdamW(model.parameters(), lr=1e-5, fused=fused).step

    return Comparison("AdamW, a step of ViT-B, fused", "torch's default", step(fused=True), step())


@torch.no_grad()
def _copy_parameters(source: nn.Module, target: nn.Module) -> None:
    for ours, theirs in zip(source.parameters(), target.parameters(), strict=True):
        theirs.copy_(ours)


def _step(model: nn.Module, clip: Tensor) -> None:
    with torch.autocast(clip.device.type, torch.bfloat16, enabled=clip.is_cuda):
        loss = model(clip)[-1][1].float().sum()
    loss.backward()
    model.zero_grad()  # free the gradients, so that the next run's memory includes them


@torch.no_grad()
def _infer(model: nn.Module, clip: Tensor) -> Tensor:
    with torch.autocast(clip.device.type, torch.bfloat16, enabled=clip.is_cuda):
        return model(clip)[-1][1]


def _clip_masks(count: int, device: torch.device) -> Tensor:
    draw = TRANSFORMS.build(dict(type="maskfeat.CubeMaskGenerator", token_grid=CLIP_TOKENS, seed=0))
    return torch.stack([torch.from_numpy(draw({"sample_idx": i})["mask"]) for i in range(count)]).to(device)

"""Comparisons of the benchmark: the plugin against packages that do the same job."""

import copy
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch._inductor.cpp_builder import get_cpp_compiler

from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.models.utils import masked_places
from maskfeat_plugin.ops.linear import linear
from maskfeat_plugin.registry import MODELS, TRANSFORMS

from .data import data_comparison
from .data_throughput import shard_comparison
from .finetuning import bfloat16_rows, image_finetuning, torchvision_finetuning
from .measuring import Comparison, Work
from .peers import PeerVideoMaskFeat, image_maskfeat, normal, training
from .plain_masks import cubes_by_loops

BASE_MODELS = configs_folder() / "_base_" / "models"
IMAGE_TOKENS, CLIP_TOKENS = (14, 14), (8, 14, 14)
SMALL_VIT = dict(embed_dims=384, num_layers=2, num_heads=6, feedforward_channels=1536)


def comparisons(device: torch.device, folder: Path) -> Iterator[Comparison]:
    """List all comparisons. The models are large, so each comparison builds its own when it is measured.

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
    yield compiled_pretraining(device, 64, "base") if on_gpu else compiled_pretraining(device, 8, SMALL_VIT)
    if on_gpu:
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

    @cache
    def generators() -> tuple[nn.Module, nn.Module]:
        ours = MODELS.build(dict(type="maskfeat.HOGGenerator")).to(device)
        return ours, MODELS.build(dict(type="mmpretrain.HOGGenerator", gaussian_window=0)).to(device)

    def of_images() -> tuple[Work, Work]:
        ours, theirs = generators()
        images = normal(16, 3, 224, 224).to(device)
        return lambda: ours(images), lambda: theirs(images)

    def of_clip() -> tuple[Work, Work]:
        ours, theirs = generators()
        clip = normal(1, 3, 16, 224, 224).to(device)
        frames = clip[:, :, ::2].transpose(1, 2).flatten(0, 1).contiguous()  # (8, 3, 224, 224)
        mask = _clip_masks(1, device)
        return lambda: ours(clip, mask), lambda: theirs(frames)[mask.flatten(2)[0]]

    return [
        Comparison("HOG, 16 images of 224 x 224", "mmpretrain", of_images),
        Comparison(
            "HOG of the 40 % that are masked, a clip of 16 x 224 x 224",
            "mmpretrain, all cells",
            of_clip,
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

    def build() -> tuple[Work, Work]:
        images = normal(count, 3, 224, 224).to(device)
        ours = MODELS.build(dict(type="maskfeat.HOGGenerator")).to(device)
        source = torch.zeros(
            (images.numel() + count * 196 * 108) // 2, device=device
        )  # the copy reads this tensor and writes as much
        target = torch.empty_like(source)
        return lambda: ours.hog(images), lambda: target.copy_(source)

    return Comparison(f"HOG, {count} images of 224 x 224, and the bandwidth", "a copy of as many bytes", build)


def masks() -> list[Comparison]:
    """Compare the mask generators of images and clips.

    Returns:
        list[Comparison]: Comparisons with loops over the patches: mmpretrain's generator, and plain Python.
    """

    def of_images() -> tuple[Work, Work]:
        blocks = TRANSFORMS.build(dict(type="maskfeat.BlockMaskGenerator", token_grid=IMAGE_TOKENS))
        beit = TRANSFORMS.build(
            dict(type="mmpretrain.BEiTMaskGenerator", input_size=14, num_masking_patches=78, min_num_patches=15)
        )
        return lambda: [blocks({}) for _ in range(1000)], lambda: [beit({}) for _ in range(1000)]

    def of_clips() -> tuple[Work, Work]:
        cubes = TRANSFORMS.build(dict(type="maskfeat.CubeMaskGenerator", token_grid=CLIP_TOKENS))
        return (
            lambda: [cubes({}) for _ in range(100)],
            lambda: [dict(mask=cubes_by_loops(CLIP_TOKENS, 0.4)) for _ in range(100)],
        )

    return [
        Comparison("1000 block-wise masks of 14 x 14", "mmpretrain", of_images),
        Comparison("100 cube masks of 8 x 14 x 14", "a loop over the patches", of_clips),
    ]


def linear_layers() -> Comparison:
    """Compare the first linear layer of an MLP of MViT-S on a CPU. The result depends on the processor.

    Returns:
        Comparison: Comparison with torch's linear layer.
    """

    def build() -> tuple[Work, Work]:
        x, weight, bias = normal(1568, 384), normal(1536, 384), normal(1536)

        def repeat(layer: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
            for _ in range(20):
                y = layer(x, weight, bias)
            return y

        return lambda: repeat(linear), lambda: repeat(F.linear)

    return Comparison("20 linear layers, 1568 x 384 to 1536, forward", "torch.nn.functional.linear", build)


def video_pretraining(device: torch.device, batch_size: int = 1) -> Comparison:
    """Compare pre-training steps of MViT-S with the same weights: target, forward pass, backward pass and optimizer.

    Args:
        device (torch.device): Device of the steps.
        batch_size (int): Clips per step. Defaults to 1.

    Returns:
        Comparison: Comparison with mmaction2's MViT and mmpretrain's HOG.
    """

    def build() -> tuple[Work, Work]:
        config = Config.fromfile(BASE_MODELS / "maskfeat_mvit-small.py").model
        ours = MODELS.build(config).to(device).train()
        arch = ours.backbone.arch_zoo[config.backbone.arch]
        settings = dict(arch=arch, temporal_size=16, spatial_size=224, dim_mul_in_attention=False, drop_path_rate=0.0)
        theirs = PeerVideoMaskFeat(settings, config.neck.in_channels).to(device).train()
        theirs.backbone.load_state_dict(ours.backbone.state_dict(), strict=False)  # all but the mask token
        theirs.mask_token.data.copy_(ours.backbone.mask_token)
        _copy_parameters(ours.neck, theirs.decoder)
        clips, mask = normal(batch_size, 3, 16, 224, 224).to(device), _clip_masks(batch_size, device)
        return (
            training(ours, lambda: ours.loss(clips, mask=mask)["loss"], device),
            training(theirs, lambda: theirs(clips, mask), device),
        )

    return Comparison(
        f"MViT-S 16 x 4, pre-training step, {batch_size} clip{'s' if batch_size > 1 else ''}",
        "mmaction2's MViT, mmpretrain's HOG",
        build,
    )


def video_finetuning(device: torch.device) -> list[Comparison]:
    """Compare MViT-S with the same weights: forward and backward pass, and forward pass only.

    Args:
        device (torch.device): Device of the steps.

    Returns:
        list[Comparison]: Comparisons with mmaction2's MViT.
    """

    @cache
    def pair() -> tuple[nn.Module, nn.Module]:
        settings = dict(arch="small", dim_mul_in_attention=False)
        theirs = MODELS.build(dict(type="mmaction.MViT", **settings)).to(device)
        ours = MODELS.build(dict(type="maskfeat.MViT", **settings)).to(device)
        ours.load_state_dict(theirs.state_dict())
        return ours, theirs

    def both(run: Callable[[nn.Module, Tensor], object]) -> tuple[Work, Work]:
        ours, theirs = pair()
        clip = normal(1, 3, 16, 224, 224).to(device)
        return lambda: run(ours, clip), lambda: run(theirs, clip)

    return [
        Comparison("MViT-S 16 x 4, fine-tuning, 1 clip, forward and backward", "mmaction2", lambda: both(_step)),
        Comparison("MViT-S 16 x 4, inference, 1 clip", "mmaction2", lambda: both(_infer)),
    ]


def image_pretraining(device: torch.device, batch_size: int = 8) -> Comparison:
    """Compare pre-training steps of ViT-B with the same weights: target, forward pass, backward pass and optimizer.

    Args:
        device (torch.device): Device of the steps.
        batch_size (int): Images per step. Defaults to 8.

    Returns:
        Comparison: Comparison with mmpretrain's MaskFeat.
    """

    def build() -> tuple[Work, Work]:
        ours = MODELS.build(Config.fromfile(BASE_MODELS / "maskfeat_vit-base-p16.py").model).to(device).train()
        theirs = image_maskfeat().to(device).train()
        ours.backbone.load_state_dict(theirs.backbone.state_dict())
        _copy_parameters(ours.neck, theirs.neck)
        images, mask = normal(batch_size, 3, 224, 224).to(device), _image_masks(batch_size).to(device)
        samples = [DataSample(mask=one.squeeze(0)) for one in mask]
        return (
            training(ours, lambda: ours.loss(images, mask=mask)["loss"], device),
            training(theirs, lambda: theirs.loss(images, samples)["loss"], device),
        )

    return Comparison(f"ViT-B/16, pre-training step, {batch_size} images", "mmpretrain", build)


def compiled_pretraining(
    device: torch.device, batch_size: int, arch: str | dict, compiler: str = "inductor"
) -> Comparison:
    """Compare a training step of MaskFeat with a ViT that is compiled with one that is not.

    Args:
        device (torch.device): Device of the step.
        batch_size (int): Images per step.
        arch (str | dict): ``arch`` of the backbone.
        compiler (str): Backend of ``torch.compile``. Defaults to "inductor".

    Returns:
        Comparison: Comparison with eager mode. It cannot be done on a CPU without a C++ compiler.
    """
    name = "ViT-B/16" if arch == "base" else "ViT of 2 layers and 384 channels"

    def build() -> tuple[Work, Work]:
        config = Config.fromfile(BASE_MODELS / "maskfeat_vit-base-p16.py").model
        config.backbone.arch = arch
        if isinstance(arch, dict):
            config.neck.in_channels = arch["embed_dims"]
        eager = MODELS.build(config).to(device).train()
        compiled = copy.deepcopy(eager)
        compiled.compile(backend=compiler)
        mask = _image_masks(batch_size)
        places = masked_places(mask)
        assert places is not None
        images = normal(batch_size, 3, 224, 224).to(device)
        batch = dict(inputs=images, mask=mask.to(device), masked_index=places.index.to(device))
        return (
            training(compiled, lambda: compiled(**batch, mode="loss")["loss"], device),
            training(eager, lambda: eager(**batch, mode="loss")["loss"], device),
        )

    return Comparison(
        f"{name}, pre-training step, {batch_size} images, compiled",
        "the same in eager mode",
        build,
        _missing_compiler() if compiler == "inductor" and device.type == "cpu" else "",
    )


def _missing_compiler() -> str:
    """Return why torch.compile's default backend cannot compile for a CPU here, "" if it can."""
    try:
        get_cpp_compiler()
    except RuntimeError:  # InvalidCxxCompiler
        return "there is no C++ compiler for torch.compile. Install g++, or name a compiler in CXX."
    return ""


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

    return Comparison("AdamW, a step of ViT-B, fused", "torch's default", lambda: (step(fused=True), step()))


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


def _image_masks(count: int) -> Tensor:
    draw = TRANSFORMS.build(dict(type="maskfeat.BlockMaskGenerator", token_grid=IMAGE_TOKENS, seed=0))
    return torch.stack([torch.from_numpy(draw({"sample_idx": i})["mask"]) for i in range(count)])[:, None]


def _clip_masks(count: int, device: torch.device) -> Tensor:
    draw = TRANSFORMS.build(dict(type="maskfeat.CubeMaskGenerator", token_grid=CLIP_TOKENS, seed=0))
    return torch.stack([torch.from_numpy(draw({"sample_idx": i})["mask"]) for i in range(count)]).to(device)

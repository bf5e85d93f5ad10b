"""Checks of a device before anything is timed on it: its results are equal to the results of the CPU."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor

from maskfeat_cli.named_configs import named_configs
from maskfeat_plugin.models.utils import masked_places
from maskfeat_plugin.registry import MODELS, TRANSFORMS

MODEL = "maskfeat_vit-tiny_moving-digits"
STEPS = 50


@dataclass(frozen=True)
class DeviceCheck:
    """Result of a check.

    Args:
        name (str): The check.
        passed (bool): Whether the device passed it.
        found (str): The measured numbers, with the bound.
    """

    name: str
    passed: bool
    found: str


def check_device(device: torch.device, compiler: str = "inductor") -> Iterator[DeviceCheck]:
    """Check HOG, losses, a compiled step and a short training on a device.

    Args:
        device (torch.device): The device.
        compiler (str): Backend of ``torch.compile``. Defaults to "inductor".

    Yields:
        DeviceCheck: One result per check. An exception is a check that failed.
    """
    checks: dict[str, Callable[[], tuple[bool, str]]] = {
        "HOG against the CPU": lambda: _check_hog(device),
        "loss in float32 against the CPU": lambda: _check_loss(device, bfloat16=False),
        "loss in bfloat16 against the CPU in float32": lambda: _check_loss(device, bfloat16=True),
        f"compiled loss ({compiler}) against eager mode": lambda: _check_compiled(device, compiler),
        f"{STEPS} training steps of {MODEL}": lambda: _check_training(device),
    }
    for name, check in checks.items():
        try:
            yield DeviceCheck(name, *check())
        except Exception as error:  # of any kind: the other checks are still worth their results
            yield DeviceCheck(name, False, f"{type(error).__name__}: {error}")


def format_checks(checks: list[DeviceCheck]) -> str:
    """Format checks as a Markdown table.

    Args:
        checks (list[DeviceCheck]): The results.

    Returns:
        str: The table.
    """
    rows = [f"| {check.name} | {'passed' if check.passed else 'FAILED'} | {check.found} |" for check in checks]
    return "\n".join(["| check | result | found |", "| --- | --- | --- |", *rows])


def striped_images(count: int, side: int, seed: int) -> Tensor:
    """Draw images of stripes with a random direction and width, whose HOG can be predicted from their visible part.

    Args:
        count (int): Number N of images.
        side (int): Height and width in pixels.
        seed (int): Seed of the directions, widths and colours.

    Returns:
        Tensor: Normalised images (N, 3, side, side), float32.
    """
    random = torch.Generator().manual_seed(seed)
    angle, width, phase = (torch.rand(count, 1, 1, generator=random) for _ in range(3))
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    along = rows * torch.sin(angle * math.pi) + columns * torch.cos(angle * math.pi)  # (N, side, side)
    stripes = torch.sin(along / (1 + 2 * width) + 2 * math.pi * phase)
    return stripes[:, None] * (0.5 + torch.rand(count, 3, 1, 1, generator=random))


def _batch(seed: int, count: int = 64) -> dict[str, Tensor]:
    """Draw images and masks for the model of the checks."""
    draw = TRANSFORMS.build(dict(type="maskfeat.BlockMaskGenerator", token_grid=(5, 5), mask_ratio=0.4, seed=seed))
    mask = torch.stack([torch.from_numpy(draw({"sample_idx": i})["mask"]) for i in range(count)])[:, None]
    places = masked_places(mask)
    assert places is not None
    return dict(inputs=striped_images(count, 40, seed), mask=mask, masked_index=places.index)


def _model() -> BaseModel:
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(named_configs()[MODEL]).model)
    model.init_weights()
    return model.train()


def _loss(model: BaseModel, device: torch.device, seed: int = 0) -> dict[str, Tensor]:
    return model(**{key: value.to(device) for key, value in _batch(seed).items()}, mode="loss")


def _check_hog(device: torch.device) -> tuple[bool, str]:
    hog = MODELS.build(dict(type="maskfeat.HOGGenerator"))
    images = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = hog(images)
    found = hog.to(device)(images.to(device)).cpu()
    difference = float((found - expected).abs().max())
    return difference <= 1e-5, f"largest difference {difference:.1e}, bound 1e-05"


def _check_loss(device: torch.device, bfloat16: bool) -> tuple[bool, str]:
    model = _model()
    expected = float(_loss(model, torch.device("cpu"))["loss"].detach())
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        found = float(_loss(model.to(device), device)["loss"].detach())
    bound = 2e-2 if bfloat16 else 1e-4
    return abs(found / expected - 1) <= bound, f"{found:.6f} and {expected:.6f}, relative bound {bound:.0e}"


def _check_compiled(device: torch.device, compiler: str) -> tuple[bool, str]:
    model = _model().to(device)
    compiled = copy.deepcopy(model)
    compiled.compile(backend=compiler, fullgraph=True)
    expected, found = (float(_loss(one, device)["loss"].detach()) for one in (model, compiled))
    return abs(found / expected - 1) <= 1e-3, f"{found:.6f} and {expected:.6f}, relative bound 1e-03"


def _check_training(device: torch.device) -> tuple[bool, str]:
    model = _model().to(device)
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=2e-3), clip_grad=dict(max_norm=1.0))
    for step in range(STEPS):
        losses = _loss(model, device, seed=step)
        wrapper.update_params(losses["loss"])
    loss, baseline = float(losses["loss"].detach()), float(losses["baseline"])
    return loss < baseline, f"loss {loss:.4f}, baseline {baseline:.4f}"

"""Costs of a pre-training step: growth of time and memory with the settings that a user can choose."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from maskfeat_plugin.engine.process_info import peak_memory

from .measuring import seconds_of
from .model_and_batch import model_and_batch
from .peers import optimizer
from .several_processes import measure_processes


@dataclass(frozen=True)
class Cost:
    """Cost of a training step with one setting.

    Args:
        model (str): Name of the model.
        what (str): The varied setting; all others are the same as in the first row.
        value (str): Value of the varied setting.
        samples (int): Images or clips per step.
        seconds (float): Median time of a step.
        memory (float, optional): Peak megabytes beyond weights and optimizer. None if unknown.
    """

    model: str
    what: str
    value: str
    samples: int
    seconds: float
    memory: float | None


def costs(repeats: int, device: torch.device) -> Iterator[Cost]:
    """Measure time and memory of a step for several batch sizes, frames, resolutions and mask ratios.

    On a CPU, several processes are measured too. Steps run in float32 on a CPU and in bfloat16 on a GPU.

    Args:
        repeats (int): Timed steps of each setting; the result is the median.
        device (torch.device): Device of the steps.

    Yields:
        Cost: One cost per setting, first of MViT-S on clips, then of ViT-B on images.
    """
    clips: dict[str, Any] = dict(frames=16, side=224, batch=1, ratio=0.4)
    images: dict[str, Any] = dict(frames=1, side=224, batch=8, ratio=0.4)
    settings: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = []
    settings += [("MViT-S", clips, "16 x 224 x 224, 40 % masked, clips", {"batch": 1})]
    settings += [("MViT-S", clips, "clips", {"batch": value}) for value in (2, 4)]
    settings += [("MViT-S", clips, "frames", {"frames": value}) for value in (24, 32, 40)]
    settings += [("MViT-S", clips, "side", {"side": value}) for value in (256, 288, 352)]
    settings += [("MViT-S", clips, "masked", {"ratio": value}) for value in (0.2, 0.6, 0.8)]
    settings += [("ViT-B", images, "224 x 224, 40 % masked, images", {"batch": 8})]
    settings += [("ViT-B", images, "images", {"batch": value}) for value in (1, 4, 16)]
    settings += [("ViT-B", images, "side", {"side": value}) for value in (288, 352)]
    settings += [("ViT-B", images, "masked", {"ratio": value}) for value in (0.2, 0.6, 0.8)]
    for model, base, what, change in settings:
        size = {**base, **change}
        seconds, memory = _measure_step(model, size, repeats, device)
        value = next(iter(change.values()))
        yield Cost(model, what, f"{value:.0%}" if "ratio" in change else str(value), size["batch"], seconds, memory)
    if device.type == "cpu":
        for count in (1, 2):
            yield Cost("MViT-S", "processes, a clip each", str(count), count, *measure_processes(count, clips, repeats))


def _measure_step(model: str, size: dict, repeats: int, device: torch.device) -> tuple[float, float | None]:
    network, inputs, mask = model_and_batch(model, size, device)
    wrapper = optimizer(network)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = network.loss(inputs, mask=mask)["loss"]
        wrapper.update_params(loss)

    step()
    seconds = statistics.median(seconds_of(step, device) for _ in range(repeats))
    return seconds, peak_memory(step, device)

"""How time and memory of a pre-training step grow with what a user can choose."""

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
    """A training step of one setting.

    Args:
        model (str): Which.
        what (str): What is varied; all else is as in the first row.
        value (str): To what.
        samples (int): Images or clips of a step.
        seconds (float): Of a step, the median.
        memory (float, optional): Megabytes at the peak beyond weights and optimizer, None if not known.
    """

    model: str
    what: str
    value: str
    samples: int
    seconds: float
    memory: float | None


def costs(repeats: int, device: torch.device) -> Iterator[Cost]:
    """Time and memory of a step by batch, frames, resolution, mask ratio and, on a CPU, processes.

    Float32 on a CPU, bfloat16 on a GPU.

    Args:
        repeats (int): Steps of each, the median counts.
        device (torch.device): Where they run.

    Yields:
        Cost: One after the other, MViT-S on clips, then ViT-B on images.
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

"""Memory and days that a training needs on a given number of GPUs of a given speed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from maskfeat_plugin.errors import ConfigError

from .model import ModelCosts

GIGABYTE = 1 << 30
# Last part of a config's name -> number of training samples, for use where the annotation file is missing. Videos of
# Kinetics disappear over time; these numbers are from mmaction2's documentation of its copies.
_SAMPLES = dict(in1k=1_281_167, k400=240_436, k600=383_393, k700=542_357, sthv2=168_913)
# Bytes of an optimizer's state for each parameter: two float32 values, or one
_STATE = dict(AdamW=8, Adam=8, SGD=4)


@dataclass(frozen=True)
class Plan:
    """Estimated memory and days of one training.

    Attributes:
        name: Name of the config.
        costs: Costs of the model.
        way: "data parallel" or "FSDP".
        gpus: Number of GPUs.
        batch: Number of samples of a step on each GPU.
        rate: Number of samples that each GPU processes in a second.
        states: Bytes of weights, gradients and optimizer on each GPU.
        largest_batch: Largest number of samples that fit into the remaining memory; 0 if ``states`` is too large.
        days: Days of training if the GPUs compute all the time; None if the number of samples is not known.
    """

    name: str
    costs: ModelCosts
    way: str
    gpus: int
    batch: int
    rate: float
    states: float
    largest_batch: int
    days: float | None

    @property
    def memory(self) -> float:
        """Bytes on each GPU at the peak of a step."""
        return self.states + _overhead(self.costs, self.way) + self.batch * self.costs.activations


def plan_training(
    cfg: Config,
    costs: ModelCosts,
    tflops: float,
    memory: float,
    gpus: int | None = None,
    batch: int | None = None,
    samples: int | None = None,
) -> Plan:
    """Estimate the memory and the days of a training.

    Args:
        cfg (Config): The config.
        costs (ModelCosts): Costs of its model.
        tflops (float): Speed of a GPU in training, in 10**12 FLOPs a second. It is well below the speed in a GPU's
            data sheet.
        memory (float): Memory of a GPU, in GB of 2**30 bytes.
        gpus (int, optional): Number of GPUs. Defaults to None: the number in the config's name, such as 8xb256, or 1.
        batch (int, optional): Number of samples of a step on each GPU. Defaults to None: the number in the config.
        samples (int, optional): Number of samples of an epoch. Defaults to None: the number of lines of the annotation
            file, or the known number of samples of the data set.

    Returns:
        Plan: The estimate.
    """
    named = re.search(r"(\d+)xb\d+", Path(cfg.filename).stem)
    gpus = gpus or (int(named.group(1)) if named else 1)
    repeats = cfg.train_dataloader.dataset.get("num_repeats", 1)  # clips of a video in one sample
    batch = batch or cfg.train_dataloader.batch_size * repeats
    way = _way(cfg)
    states = _states(cfg, costs, way, gpus)
    left = memory * GIGABYTE - states - _overhead(costs, way)
    total = _total_samples(cfg, samples, repeats, gpus * batch)
    return Plan(
        name=Path(cfg.filename).stem,
        costs=costs,
        way=way,
        gpus=gpus,
        batch=batch,
        rate=tflops * 1e12 / costs.step_flops,
        states=states,
        largest_batch=max(int(left // costs.activations), 0),
        days=None if total is None else total * costs.step_flops / (gpus * tflops * 1e12) / 86_400,
    )


def format_plans(plans: Sequence[Plan]) -> str:
    """Return a Markdown table with a row for each training."""
    head = (
        "| config | way | parameters, M | forward, GFLOP | step, GFLOP | activations, MB | GPUs x batch | states, GB | "
        "memory, GB | largest batch | samples/s a GPU | days |"
    )
    rows = [head, "| --- | --- |" + " ---: |" * 10]
    for plan in plans:
        costs = plan.costs
        cells = (
            plan.name,
            plan.way + (", recomputed" if costs.recomputes else ""),
            f"{(costs.trained + costs.frozen) / 1e6:.1f}",
            f"{costs.forward_flops / 1e9:.1f}",
            f"{costs.step_flops / 1e9:.1f}",
            f"{costs.activations / (1 << 20):.0f}",
            f"{plan.gpus} x {plan.batch}",
            f"{plan.states / GIGABYTE:.2f}",
            f"{plan.memory / GIGABYTE:.1f}",
            f"{plan.largest_batch}",
            f"{plan.rate:.1f}",
            "?" if plan.days is None else f"{plan.days:.1f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _way(cfg: Config) -> str:
    strategy = cfg.get("strategy") or {}
    return "FSDP" if str(strategy.get("type", "")).endswith("FSDPStrategy") else "data parallel"


def _states(cfg: Config, costs: ModelCosts, way: str, gpus: int) -> float:
    """Compute the bytes of weights, gradients and optimizer on each GPU, in float32."""
    kind = cfg.optim_wrapper.optimizer.type
    if kind not in _STATE:
        raise ConfigError(
            f"optim_wrapper.optimizer.type={kind!r}: the memory of this optimizer is not known. Use one of "
            f"{', '.join(_STATE)}."
        )
    state = _STATE[kind]
    if way == "FSDP":
        return (costs.trained * (8 + state) + 4 * costs.frozen) / gpus
    # several processes average their gradients in buckets, which are a copy of the gradients
    buckets = 4 if gpus > 1 else 0
    return costs.trained * (8 + state + buckets) + 4 * costs.frozen


def _overhead(costs: ModelCosts, way: str) -> float:
    """Compute the bytes at the peak that do not grow with the batch."""
    if way == "FSDP":  # two gathered blocks, and the gradients of one
        return costs.largest_unit * (2 * (2 if costs.mixed else 4) + 4)
    return costs.workspace


def _total_samples(cfg: Config, samples: int | None, repeats: int, step: int) -> int | None:
    """Compute the number of samples of the whole training."""
    if "max_iters" in cfg.train_cfg:
        return cfg.train_cfg.max_iters * step
    dataset = cfg.train_dataloader.dataset
    if samples is None and dataset.get("ann_file"):
        path = Path(dataset.get("data_root") or "", dataset.ann_file)
        if path.is_file() and path.suffix in (".txt", ".csv"):
            with open(path) as file:
                samples = sum(1 for line in file if line.strip())
    if samples is None:
        samples = _SAMPLES.get(Path(cfg.filename).stem.rsplit("_", 1)[-1])
    return None if samples is None else samples * repeats * cfg.train_cfg.max_epochs

"""Measurement of the memory that each process of a training uses."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

import maskfeat_plugin  # noqa: F401 (run as a program too)
from maskfeat_plugin.config.load import load_config
from maskfeat_plugin.config.sample_sizes import sample_channels
from maskfeat_plugin.config.training_inputs import collate, views_per_sample
from maskfeat_plugin.engine.process_info import MEGABYTE, peak_memory, resident_memory
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import STRATEGIES
from maskfeat_plugin.running.log_streams import quiet

WAYS = ("data-parallel", "sharded", "sharded-recomputed")


def measure_peaks(
    config: str | Path, way: str, processes: int, batch: int, size: Sequence[int], steps: int = 2
) -> list[float]:
    """Train a pre-training config for some steps on random inputs, on the CPU, and measure the memory of each process.

    Args:
        config (str | Path): The config, a file or a name. Its model and its optimizer are used, in float32.
        way (str): One of :data:`WAYS`.
        processes (int): Number of processes.
        batch (int): Number of samples of a step in each process.
        size (Sequence[int]): Size of the inputs, (H, W) or (T, H, W).
        steps (int): Number of steps. Defaults to 2: in the second step the optimizer's state exists.

    Returns:
        list[float]: Megabytes of each process at the peak of the last step, minus its memory before the model is
            built.

    Raises:
        ConfigError: If the training fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "peaks.json")
        job = dict(config=str(config), way=way, batch=batch, size=list(size), steps=steps, result=str(result))
        program = ["-m", "maskfeat_plugin.apis.estimate.peaks", json.dumps(job)]
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *launcher, *program],
            capture_output=True,
            text=True,
            # the threshold makes the C library return the memory of freed tensors at once
            env=dict(os.environ, CUDA_VISIBLE_DEVICES="", MALLOC_MMAP_THRESHOLD_="131072"),
        )
        if done.returncode or not result.is_file():
            reasons = [line for line in done.stderr.splitlines() if "Error" in line] or ["no message"]
            raise ConfigError(f"{config}: the measurement of {way} failed: {reasons[0]}")
        return json.loads(result.read_text())


def _train(job: dict) -> list[float]:
    """Train in this process, and return the memory of all processes."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    cfg = load_config(job["config"])
    before = resident_memory()
    sharded = job["way"] != "data-parallel"
    strategy: dict[str, Any] = dict(type="maskfeat.FSDPStrategy" if sharded else "DDPStrategy")
    if job["way"] == "sharded-recomputed":
        strategy["activation_checkpointing"] = dict(check_fn="maskfeat.is_block")
    if not sharded:
        strategy["model_wrapper"] = dict(type="MMDistributedDataParallel", broadcast_buffers=False, device_ids=None)
    size = job["size"]
    if len(size) == 3:
        # mmaction2's MViT takes one number as the size of a frame, and resizes its positions
        cfg.model.backbone.update(temporal_size=size[0], spatial_size=max(size[1:]))
    else:
        cfg.model.backbone.img_size = tuple(size)
    cfg.optim_wrapper.type = "OptimWrapper"
    with tempfile.TemporaryDirectory() as folder, DefaultScope.overwrite_default_scope(cfg.default_scope), quiet():
        built = STRATEGIES.build(
            dict(strategy, work_dir=folder, env_kwargs=dict(launcher="pytorch", randomness=dict(seed=0)))
        )
        model, optim_wrapper = built.prepare(cfg.model, optim_wrapper=cfg.optim_wrapper, dispatch_kwargs={})[:2]
        grid = (model if sharded else model.module).backbone.token_grid(tuple(size))
        random = torch.Generator().manual_seed(get_rank())
        mask = torch.zeros(grid, dtype=torch.bool)
        mask.view(-1)[torch.randperm(mask.numel(), generator=random)[: int(0.4 * mask.numel())]] = True
        shape = (sample_channels(cfg), *size)
        count = job["batch"] * views_per_sample(cfg)
        inputs = [torch.randint(256, shape, generator=random, dtype=torch.uint8) for _ in range(count)]
        batch = collate(cfg, inputs, [DataSample(mask=mask) for _ in range(count)])
        for _ in range(job["steps"] - 1):
            model.train_step(batch, optim_wrapper)
        grown = (resident_memory() - before) / MEGABYTE
        peak = peak_memory(lambda: model.train_step(batch, optim_wrapper), torch.device("cpu"))
        if peak is None:
            raise OSError("this system does not report the memory of a process")
        return all_gather_object(grown + peak)


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    found = _train(request)
    if get_rank() == 0:
        Path(request["result"]).write_text(json.dumps(found))

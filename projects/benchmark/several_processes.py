"""Training steps of several processes that share the cores of a CPU."""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.distributed import destroy_process_group, get_rank, init_process_group
from torch.nn.parallel import DistributedDataParallel

from maskfeat_plugin.engine.process_info import peak_memory
from maskfeat_plugin.running.log_streams import quiet
from projects import environment

from .measuring import seconds_of
from .peers import optimizer


class LossOf(nn.Module):
    """Pre-training model whose ``forward`` computes the loss, as data parallel training requires."""

    model: BaseModel

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Compute the loss, a scalar, of normalised inputs and their mask."""
        return self.model.loss(inputs, mask=mask)["loss"]


def measure_processes(count: int, size: dict, repeats: int) -> tuple[float, float | None]:
    """Measure data parallel steps of MViT-S. The processes share the threads of this one.

    Args:
        count (int): Number of processes.
        size (dict): ``frames``, ``side``, ``batch`` of each process and mask ``ratio`` of the clips.
        repeats (int): Timed steps; the result is the median.

    Returns:
        tuple[float, float | None]: Seconds of a step, and peak megabytes of one process beyond weights and optimizer.

    Raises:
        RuntimeError: If a process fails. The message is the end of its output.
    """
    threads = max(torch.get_num_threads() // count, 1)
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc_per_node={count}", "-m", __name__, json.dumps(size), str(repeats)]
    done = subprocess.run(command, env=environment(OMP_NUM_THREADS=str(threads)), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{count} processes: {done.stderr[-2000:]}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def run_process(make: Callable[[dict], tuple[nn.Module, Tensor, Tensor]], size: dict, repeats: int) -> None:
    """Do the work of each process. Rank 0 prints the result.

    Args:
        make (Callable[[dict], tuple[nn.Module, Tensor, Tensor]]): Builds model, inputs and mask of a size.
        size (dict): The size.
        repeats (int): Timed steps; the result is the median.
    """
    init_process_group("gloo")
    with quiet():
        network, inputs, mask = make(size)
    model = DistributedDataParallel(LossOf(network))
    wrapper = optimizer(model)

    def step() -> None:
        wrapper.update_params(model(inputs, mask))

    step()
    cpu = torch.device("cpu")
    seconds = statistics.median(seconds_of(step, cpu) for _ in range(repeats))
    memory = peak_memory(step, cpu)
    if get_rank() == 0:
        print(json.dumps([seconds, memory]))
    destroy_process_group()


if __name__ == "__main__":
    from .model_and_batch import video_step

    run_process(video_step, json.loads(sys.argv[1]), int(sys.argv[2]))

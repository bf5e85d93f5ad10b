"""Connection of the processes of a training or test, and checks that only several processes need."""

import logging
import os
import subprocess
from datetime import timedelta

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device, is_cuda_available
from mmengine.dist import all_gather_object, get_rank, get_world_size, init_dist, is_distributed
from mmengine.logging import print_log
from mmengine.utils.dl_utils import set_multi_processing
from torch import distributed
from torch.utils.data import DataLoader

from maskfeat_plugin.errors import ConfigError

from .same_start import check_same_start

# Variables of each launcher: the rank of this process, its rank on this machine, the number of processes
_VARIABLES = {
    "pytorch": ("RANK", "LOCAL_RANK", "WORLD_SIZE"),
    "slurm": ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
}
_STARTED_BY = {
    "pytorch": "torchrun (tools/dist_train.sh CONFIG PROCESSES)",
    "slurm": "srun (tools/slurm_train.sh)",
    "mpi": "Open MPI's mpirun",
}


def connect_processes(cfg: Config) -> None:
    """Connect the processes of the launcher that the config names, and prepare the config. Do nothing for one process.

    The runner uses this connection. If each process has a GPU, mmengine's function connects them. Without a GPU it
    fails, so they are connected with gloo here. DeepSpeed connects its processes itself. Each process gets its own
    random state, so that equal positions in their batches get different masks, unless ``randomness.diff_rank_seed`` is
    set.

    Args:
        cfg (Config): The config. ``randomness`` and, without a GPU, the wrapper of the model are completed in place.

    Raises:
        ConfigError: If the launcher did not start this process, if there are more processes than GPUs, or if a setting
            of ``env_cfg.dist_cfg`` does not work. Also if the processes have different configs or versions, see
            :func:`check_same_start`.
    """
    launcher = cfg.get("launcher", "none")
    if launcher == "none":
        return
    _name_process(launcher)
    cfg.randomness = ConfigDict(cfg.get("randomness") or dict(seed=None))
    cfg.randomness.setdefault("diff_rank_seed", True)
    options = dict(cfg.get("env_cfg", {}).get("dist_cfg") or {})
    backend = options.get("backend", "nccl")
    on_cpu = get_device() == "cpu"
    if on_cpu and backend == "nccl":
        if "backend" in options and launched_rank() == 0:
            print_log("There is no GPU: the processes are connected by gloo, not by nccl.", "current", logging.WARNING)
        backend = "gloo"
    if not distributed.is_backend_available(backend):
        raise ConfigError(
            f"env_cfg.dist_cfg.backend={backend!r} is not in this torch. Set it to 'nccl', or to 'gloo' on CPUs."
        )
    timeout = options.get("timeout")
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise ConfigError(f"env_cfg.dist_cfg.timeout={timeout!r} has to be a number of seconds, such as 1800.")
    if launcher == "mpi":
        _set_mpi_address()
    if on_cpu:
        _use_cpu_wrapper(cfg)
        if not is_distributed():
            _connect(launcher, dict(options, backend=backend))
    elif is_cuda_available():
        _check_gpu()
        if not is_distributed() and "DeepSpeed" not in str((cfg.get("strategy") or {}).get("type")):
            # in this order, as in mmengine's runner: init_dist would choose another way to start workers
            set_multi_processing(**(cfg.get("env_cfg", {}).get("mp_cfg") or {}), distributed=True)
            init_dist(launcher, **options)
    if is_distributed():
        check_same_start(cfg)


def launched_share(launcher: str) -> tuple[int, int]:
    """Return the rank of this process and the number of processes, for work that needs no connection between them.

    Args:
        launcher (str): The launcher of the processes: "pytorch", "slurm" or "mpi"; "none" for a single process.

    Returns:
        tuple[int, int]: The rank, counted from 0, and the number of processes.

    Raises:
        ConfigError: If the launcher did not start this process.
    """
    if launcher == "none":
        return 0, 1
    _name_process(launcher)
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def launched_device(launcher: str, device: str) -> str:
    """Return the device of this process. If a machine has several processes, each gets its own GPU.

    Args:
        launcher (str): See :func:`launched_share`.
        device (str): A device. "cuda" without a number is replaced by the GPU of this process.

    Raises:
        ConfigError: If there are more processes than GPUs.
    """
    if launcher == "none" or device != "cuda":
        return device
    _name_process(launcher)
    _check_gpu()
    return f"cuda:{os.environ['LOCAL_RANK']}"


def disconnect_processes() -> None:
    """End the connection of the processes, if there is one.

    At the end of Python, a thread of the connection that asks for the interpreter may abort the process. The launcher
    would then report the whole run as failed. So the connection is ended before.
    """
    if is_distributed():
        distributed.destroy_process_group()


def check_equal_length(dataloader: DataLoader, key: str) -> None:
    """Check that all processes have the same number of batches. Otherwise some would wait forever for the others.

    Args:
        dataloader (DataLoader): The dataloader of this process.
        key (str): Its key in the config, for the message.

    Raises:
        ConfigError: On all processes, if their numbers of batches differ.
    """
    if get_world_size() == 1 or not hasattr(dataloader.dataset, "__len__"):
        return
    lengths = all_gather_object(len(dataloader))
    if min(lengths) != max(lengths):
        raise ConfigError(
            f"{key}: the processes have between {min(lengths)} and {max(lengths)} batches, but all need the same "
            f"number. Set {key}.sampler.round_up=True, or {key}.drop_last=True."
        )


def launched_rank() -> int:
    """Return the rank of this process, also before the processes are connected; 0 for a single process."""
    return get_rank() if is_distributed() else int(os.environ.get("RANK", 0))


def describe_lost_contact(error: RuntimeError) -> str | None:
    """Describe, for the user, an error of the connection between processes. Return None for any other error.

    Args:
        error (RuntimeError): The exception that a step of training or testing raised.

    Returns:
        str | None: The message.
    """
    if not is_distributed():
        return None
    # gloo raises plain RuntimeErrors. They begin with a place in gloo's source: [.../gloo/transport/tcp/pair.cc:537]
    if not isinstance(error, distributed.DistError) and "/gloo/" not in str(error):
        return None
    reason = str(error).split("] ", 1)[-1].splitlines()[0].partition(". ")[0]
    return (
        f"process {get_rank()} of {get_world_size()} lost contact with another process and stops ({reason}). The first "
        "error is in the output of the process that failed first, and in the launcher's output"
    )


def _name_process(launcher: str) -> None:
    """Set the variables that torch and mmengine read from the variables of the launcher."""
    missing = [name for name in _VARIABLES[launcher] if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher} is for processes started by {_STARTED_BY[launcher]}, which sets {missing[0]}. "
            f"{missing[0]} is not set. Start the processes that way, or leave out --launcher for a single process."
        )
    for name, source in zip(_VARIABLES["pytorch"], _VARIABLES[launcher], strict=True):
        os.environ[name] = os.environ[source]


def _check_gpu() -> None:
    if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
        raise ConfigError(
            f"process {os.environ['LOCAL_RANK']} of this machine (counted from 0) has no GPU: it can see "
            f"{torch.cuda.device_count()} GPUs. Start one process for each GPU and let each process see all GPUs."
        )


def _set_mpi_address() -> None:
    """Set the address at which the processes of mpirun meet. mpirun does not give it; on one machine it is known."""
    if "MASTER_ADDR" not in os.environ:
        if os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") != os.environ["WORLD_SIZE"]:
            raise ConfigError(
                "--launcher mpi on several machines needs the name of the machine of process 0. Run mpirun -x "
                "MASTER_ADDR=NAME ..."
            )
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ.setdefault("MASTER_PORT", "29500")


def _set_slurm_address(port: int | None) -> None:
    """Set the address at which the processes of srun meet: the first of their machines."""
    if "MASTER_ADDR" not in os.environ:
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "")
        try:
            found = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
            os.environ["MASTER_ADDR"] = found.stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError) as error:
            raise ConfigError(
                f"--launcher slurm: scontrol does not list the machines of {nodes!r}. Set MASTER_ADDR to the name of "
                "the machine of process 0."
            ) from error
    if port is not None:
        os.environ["MASTER_PORT"] = str(port)
    os.environ.setdefault("MASTER_PORT", "29500")


def _use_cpu_wrapper(cfg: Config) -> None:
    """Wrap the model without ``device_ids``. mmengine would set them, but a model on the CPU must not have them."""
    if cfg.get("runner_type", "Runner") == "Runner":
        wrapper = cfg.get("model_wrapper_cfg") or dict(
            broadcast_buffers=False, find_unused_parameters=cfg.get("find_unused_parameters", False)
        )
        if "DistributedDataParallel" in str(wrapper.setdefault("type", "MMDistributedDataParallel")):
            cfg.model_wrapper_cfg = ConfigDict(wrapper, device_ids=None)
    else:
        strategy = ConfigDict(cfg.get("strategy") or dict(type="DDPStrategy"))
        if str(strategy.type).endswith("DDPStrategy"):
            wrapper = strategy.get("model_wrapper") or dict(type="MMDistributedDataParallel", broadcast_buffers=False)
            strategy.model_wrapper = ConfigDict(wrapper, device_ids=None)
            cfg.strategy = strategy


def _connect(launcher: str, options: dict) -> None:
    """Connect processes that have no GPU.

    Args:
        launcher (str): The launcher of the processes.
        options (dict): ``env_cfg.dist_cfg``, with a backend that this torch has.
    """
    options.pop("init_backend", None)
    port = options.pop("port", None)
    if launcher == "slurm":
        _set_slurm_address(port)
    timeout = options.pop("timeout", None)
    if timeout is not None:
        options["timeout"] = timedelta(seconds=timeout)
    distributed.init_process_group(**options)

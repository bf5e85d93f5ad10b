"""The processes of one training or test: how they find each other, and what they need that one alone does not."""

import logging
import os
import subprocess
from datetime import timedelta

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device, is_cuda_available
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_distributed
from mmengine.logging import print_log
from torch import distributed
from torch.utils.data import DataLoader

from maskfeat_plugin.errors import ConfigError

# Where each launcher says which process this is: of all, of this machine, and of how many
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
    """Prepare a config and this process for the launcher that the config names; nothing for a single process.

    Processes with a GPU each are connected by mmengine's runner. Without a GPU that fails, so they are connected here,
    by gloo, and the runner takes what it finds. Each process gets a random state of its own, unless
    ``randomness.diff_rank_seed`` is set, so that equal places in their batches get different masks.

    Args:
        cfg (Config): The config; ``randomness``, and without a GPU the wrapper of the model, are completed in place.

    Raises:
        ConfigError: If the launcher did not start this process, there are more processes than GPUs, or a setting of
            ``env_cfg.dist_cfg`` does not work.
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
        raise ConfigError(f"env_cfg.dist_cfg.backend={backend!r} is not in this torch; take 'nccl', or 'gloo' on CPUs.")
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


def launched_share(launcher: str) -> tuple[int, int]:
    """Return which of how many processes this one is, for work that needs no connection between them.

    Args:
        launcher (str): Who started them: "pytorch", "slurm" or "mpi"; "none" for a single process.

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
    """Return the device of this process: of several processes on a machine, each takes a GPU of its own.

    Args:
        launcher (str): See :func:`launched_share`.
        device (str): A device; "cuda" without a number is shared out.

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

    Its threads are not left to the end of Python, where one that asks for the interpreter may abort the process. The
    launcher would take the whole run for failed.
    """
    if is_distributed():
        distributed.destroy_process_group()


def check_equal_length(dataloader: DataLoader, key: str) -> None:
    """Refuse a training in which some processes would wait for ever for others that have no batches left.

    Args:
        dataloader (DataLoader): This process's.
        key (str): Its key in the config, for the message.

    Raises:
        ConfigError: On all processes, if they have different numbers of batches.
    """
    if get_world_size() == 1 or not hasattr(dataloader.dataset, "__len__"):
        return
    lengths = all_gather_object(len(dataloader))
    if min(lengths) != max(lengths):
        raise ConfigError(
            f"{key} gives between {min(lengths)} and {max(lengths)} batches to a process, and all need as many; set "
            f"{key}.sampler.round_up=True, or {key}.drop_last=True."
        )


def launched_rank() -> int:
    """Number of this process among all, also before they are connected; 0 for a single one."""
    return get_rank() if is_distributed() else int(os.environ.get("RANK", 0))


def describe_lost_contact(error: RuntimeError) -> str | None:
    """What to tell the user about an error of the connection between processes, None for any other error.

    Args:
        error (RuntimeError): What a step of training or testing raised.

    Returns:
        str | None: The message.
    """
    if not is_distributed():
        return None
    # gloo raises plain RuntimeErrors, which begin with the place in its source: [.../gloo/transport/tcp/pair.cc:537]
    if not isinstance(error, distributed.DistError) and "/gloo/" not in str(error):
        return None
    reason = str(error).split("] ", 1)[-1].splitlines()[0].partition(". ")[0]
    return (
        f"process {get_rank()} of {get_world_size()} lost contact with another one and stops ({reason}); which one "
        "failed first, and how, is in its own output and in the launcher's"
    )


def _name_process(launcher: str) -> None:
    """Set the variables that torch and mmengine read from those of the launcher."""
    missing = [name for name in _VARIABLES[launcher] if name not in os.environ]
    if missing:
        raise ConfigError(
            f"--launcher {launcher} is for processes started by {_STARTED_BY[launcher]}, which sets {missing[0]}, and "
            "that is not set; a single process needs no --launcher."
        )
    for name, source in zip(_VARIABLES["pytorch"], _VARIABLES[launcher], strict=True):
        os.environ[name] = os.environ[source]


def _check_gpu() -> None:
    if int(os.environ["LOCAL_RANK"]) >= torch.cuda.device_count():
        raise ConfigError(
            f"process {os.environ['LOCAL_RANK']} of this machine (counted from 0) has no GPU, of which it can see "
            f"{torch.cuda.device_count()}; start one process for each GPU and let each of them see all."
        )


def _set_mpi_address() -> None:
    """Where the processes of mpirun meet, which it does not say: on one machine it can be known."""
    if "MASTER_ADDR" not in os.environ:
        if os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") != os.environ["WORLD_SIZE"]:
            raise ConfigError(
                "--launcher mpi on several machines needs the name of that of process 0: mpirun -x MASTER_ADDR=NAME ..."
            )
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ.setdefault("MASTER_PORT", "29500")


def _set_slurm_address(port: int | None) -> None:
    """Where the processes of srun meet: on the first of its machines."""
    if "MASTER_ADDR" not in os.environ:
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "")
        try:
            found = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
            os.environ["MASTER_ADDR"] = found.stdout.split()[0]
        except (OSError, subprocess.CalledProcessError, IndexError) as error:
            raise ConfigError(
                f"--launcher slurm: scontrol does not tell the machines of {nodes!r}; set MASTER_ADDR to the name of "
                "that of process 0."
            ) from error
    if port is not None:
        os.environ["MASTER_PORT"] = str(port)
    os.environ.setdefault("MASTER_PORT", "29500")


def _use_cpu_wrapper(cfg: Config) -> None:
    """Have the model wrapped without ``device_ids``, which mmengine would set and a model on the CPU must not have."""
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
        launcher (str): Who started them.
        options (dict): ``env_cfg.dist_cfg``, with a backend that is there.
    """
    options.pop("init_backend", None)
    port = options.pop("port", None)
    if launcher == "slurm":
        _set_slurm_address(port)
    timeout = options.pop("timeout", None)
    if timeout is not None:
        options["timeout"] = timedelta(seconds=timeout)
    distributed.init_process_group(**options)

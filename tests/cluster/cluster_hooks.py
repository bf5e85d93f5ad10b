"""Hook of the trainings in the tests of a cluster. Their configs import this module."""

import os
import signal
import time
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook

from maskfeat_plugin.registry import HOOKS


@HOOKS.register_module()
class ClusterTestHook(Hook):
    """Hook that notes the losses of each process, and obeys these variables of the environment.

    ``HOLD_FROM=N``: wait 3 s in each step from step N on, in a Slurm job only until it is requeued. ``KILL=RANK:N``:
    kill a process after step N, but only once for a work directory.
    """

    priority = "LOWEST"

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        step, folder = runner.iter + 1, Path(runner.work_dir)
        with open(folder / f"losses.{get_rank()}", "a") as file:
            file.write(f"{step} {outputs['loss'].item():.9g}\n")
        hold = os.environ.get("HOLD_FROM")
        if hold and step >= int(hold) and os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
            time.sleep(3)
        rank, _, last = os.environ.get("KILL", "").partition(":")
        marker = folder / "killed"
        if rank and get_rank() == int(rank) and step == int(last) and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

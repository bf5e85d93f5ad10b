"""Hooks that disturb a training in the tests: they kill it, fill its disk, or spoil its batches."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from maskfeat_plugin.registry import HOOKS


@HOOKS.register_module(force=True)
class KillInTest(Hook):
    """Hook that does ``kill -9`` at the end of a step, or after a part of that step's checkpoint is written."""

    priority = "HIGHEST"

    def __init__(self, iteration, at="step"):
        self.iteration = iteration
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration and self.at == "step":
            os.kill(os.getpid(), signal.SIGKILL)

    def before_save_checkpoint(self, runner, checkpoint):
        if checkpoint["meta"]["iter"] != self.iteration or self.at == "step":
            return
        # the next file to be written is the checkpoint; the part has some thousand bytes
        share = dict(begun=0, half=0.5, written=None)[self.at]
        hook = next(hook for hook in runner.hooks if hasattr(hook, "save_interim"))
        folder = Path(hook.out_dir)

        def watch(event, args):
            if event == "open" and str(args[0]).startswith(str(folder)) and str(args[0]).endswith(".unfinished"):
                if share is None:
                    if "r" in str(args[1]):  # opened again, to write its data to the disk
                        os.kill(os.getpid(), signal.SIGKILL)
                elif "w" in str(args[1]):
                    content = os.urandom(1000) * 100
                    with os.fdopen(os.open(args[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                        file.write(content[: int(share * len(content))])
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)


@HOOKS.register_module(force=True)
class SignalInTest(Hook):
    """Signal in a step, to one of several processes, or to their whole group and the dataloaders' workers."""

    priority = "HIGHEST"

    def __init__(self, iteration, rank=0, group=False, in_val=False):
        self.iteration = iteration
        self.rank = rank
        self.group = group
        self.in_val = in_val

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.iteration and get_rank() == self.rank and not self.in_val:
            self.send()

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration and self.in_val:
            self.send()

    def send(self):
        if self.group:  # sent by another process, as a cluster does: workers obey only their parent process
            command = ["kill", "-TERM", "--", f"-{os.getpgrp()}"]
            subprocess.run(command, start_new_session=True, check=True)
            time.sleep(1)
        else:
            os.kill(os.getpid(), signal.SIGTERM)


@HOOKS.register_module(force=True)
class SpoilInTest(Hook):
    """Batches with NaN in their first sample, at some iterations, on one process."""

    priority = "HIGHEST"

    def __init__(self, iterations, value="nan", rank=0):
        self.iterations = iterations
        self.value = float(value)
        self.rank = rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 in self.iterations and get_rank() == self.rank:
            first, *others = data_batch["inputs"]
            data_batch["inputs"] = [torch.full(first.shape, self.value), *(item.float() for item in others)]


@HOOKS.register_module(force=True)
class NoteSamplesInTest(Hook):
    """Lines in a file of each process: the epoch, the iteration and the names of the images of a step."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        names = [sample.img_path.rpartition("/")[2] for sample in data_batch["data_samples"]]
        with open(Path(runner.work_dir, f"samples.{get_rank()}.txt"), "a") as file:
            file.write(json.dumps([runner.epoch, runner.iter, names]) + "\n")

"""Slurm of Debian on the machines of :mod:`hosts`: munge, one controller and a slurmd on each other machine."""

import os
import re
import subprocess
import time

from hosts import SYSTEM, Network

# Waiting times are short, so that the loss of a node is noticed within a minute. MessageTimeout is long: if processes
# need longer to end, the controller repeats its signal a minute later, and ends the step of the requeued job instead.
CONF = """
ClusterName=test
SlurmctldHost=node0
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10,socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SlurmdDebug=verbose
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=30
MessageTimeout=30
KillWait=30
MinJobAge=3600
InactiveLimit=0
SchedulerParameters=sched_interval=2
NodeName=node[1-{last}] CPUs=2 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """Running Slurm with a partition ``cpu`` of ``nodes`` machines with two processors each.

    Args:
        folder (Path): Folder of sockets, logs and states. Other users may read it, as munge demands.
        nodes (int): Number of machines without the controller's.
    """

    def __init__(self, folder, nodes):
        self.folder = folder
        self.network = Network(folder, nodes + 1)
        self.controller, *self.workers = self.network.nodes
        path = f"{os.environ['PATH']}:{SYSTEM}"
        unset = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK")
        self.env = {k: v for k, v in os.environ.items() if k not in unset and not k.startswith("SLURM")}
        self.env |= dict(PATH=path, SLURM_CONF=str(folder / "slurm.conf"))
        try:
            self._start(nodes)
        except BaseException:
            self.close()
            raise

    def _start(self, nodes):
        (self.folder / "slurm.conf").write_text(CONF.format(folder=self.folder, last=nodes))
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = [f"--{name}={self.folder}/munge.{name.removesuffix('-file')}" for name in ("socket", "pid-file")]
        files += [f"--{name}={self.folder}/munge.{name.removesuffix('-file')}" for name in ("key-file", "log-file")]
        files += [f"--seed-file={self.folder}/munge.seed"]
        log = self.folder / "daemons.log"
        # the socket is a file, so all machines reach this one munged
        self.controller.start("munged", "--foreground", "--force", *files, log=log, env=self.env)
        wait_until(lambda: (self.folder / "munge.socket").exists(), 20, log)
        self.controller.start("slurmctld", "-D", "-i", log=log, env=self.env)
        for node in self.workers:
            self._start_slurmd(node)
        wait_until(lambda: self.states().count("idle") == nodes, 60, log)

    def _start_slurmd(self, node):
        node.start("slurmd", "-D", "-N", node.name, log=self.folder / "daemons.log", env=self.env)

    def fail(self, node):
        """Power a machine off. Its link goes first, so that no connection is closed in an orderly way."""
        self.network.unplug(node)
        node.power_off()

    def repair(self, node):
        """Put a new machine in the place of one that failed, and wait until it is idle."""
        self.workers[self.workers.index(node)] = new = self.network.replace(node)
        self._start_slurmd(new)
        wait_until(lambda: self.states().count("idle") == len(self.workers), 60, self.folder / "daemons.log")

    def states(self):
        """Return the states of the nodes, as sinfo names them."""
        command = self.controller.command("sinfo", "-h", "-N", "-o", "%T")
        return subprocess.run(command, env=self.env, capture_output=True, text=True).stdout.split()

    def run(self, *command, cwd="/", timeout=600, **env):
        """Run a command of a user on the controller's machine, and return its output."""
        return self.controller.run(*command, cwd=cwd, env={**self.env, **env}, timeout=timeout)

    def submit(self, script, *arguments, cwd, log, **env):
        """Submit a script with sbatch, and return the number of the job."""
        return int(self.run("sbatch", "--parsable", f"--output={log}", script, *arguments, cwd=cwd, **env))

    def job(self, number):
        """Return the fields of ``scontrol show job``."""
        shown = self.run("scontrol", "--oneliner", "show", "job", number)
        return dict(item.partition("=")[::2] for item in shown.split() if "=" in item)

    def wait(self, number, states, timeout):
        """Wait until a job is in one of some states, and return its fields."""
        found = wait_until(
            lambda: (job := self.job(number))["JobState"] in states and job, timeout, lambda: self.job(number)
        )
        return found

    def close(self):
        """End all machines."""
        self.network.close()


def wait_until(condition, timeout, log):
    """Wait until a condition returns something true, and return it. ``log`` is the file or function for the message."""
    end = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s in vain: {log() if callable(log) else log.read_text()[-5000:]}")
        time.sleep(0.5)
    return found


def wait_for_text(file, text, timeout=300):
    """Wait until a file exists and matches a regular expression."""
    wait_until(
        lambda: file.exists() and re.search(text, file.read_text(errors="replace")),
        timeout,
        lambda: f"{text} is not in {file}: {file.read_text(errors='replace')[-5000:] if file.exists() else 'no file'}",
    )

"""Machines of a cluster on one machine: each has its own network, host name and process numbers, and ends as a whole.

A machine is a set of Linux namespaces. Its network card is one end of a veth pair. The other ends are ports of a bridge
in a namespace of its own, so nothing is changed in the network of the real machine.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

# Program -> Debian's package that has it
PROGRAMS = dict(ip="iproute2", nsenter="util-linux", setpriv="util-linux", unshare="util-linux")
SLURM_PROGRAMS = dict(munged="munge", slurmctld="slurm-wlm", slurmd="slurm-wlm", srun="slurm-wlm")
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"  # folders that are not in the PATH of every user


def check_programs(programs):
    """Fail if a program is missing or if this user may not make namespaces, and name the remedy."""
    path = f"{os.environ['PATH']}:{SYSTEM}"
    missing = {name: package for name, package in programs.items() if shutil.which(name, path=path) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise AssertionError(f"{', '.join(missing)} not found. Run: apt-get install {packages}")
    if os.geteuid() != 0:
        raise AssertionError("make test-cluster makes network namespaces. Run it as root, in a container --privileged.")


def _environment():
    return {**os.environ, "PATH": f"{os.environ['PATH']}:{SYSTEM}"}


class Machine:
    """Machine that :class:`Network` has started."""

    def __init__(self, name, hosts=None):
        self.name = name
        setup = ["hostname " + name, "ip link set lo up"]
        if hosts is not None:
            setup.append(f"mount --bind {hosts} /etc/hosts")
        # bash reaps the processes whose parents have ended; setpriv ends the machine if the tests are killed
        script = " && ".join(setup) + " && echo up && sleep infinity & wait"
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "--mount", "--pid", "--fork"]
        command += ["--kill-child", "--mount-proc", "bash", "-c", script]
        self.holder = subprocess.Popen(
            command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.holder.stdout.readline() == "up\n", f"{name} did not start"
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text()
        self.pid = int(children)

    def command(self, *command, cwd="/"):
        """Return the command line that runs a command on this machine."""
        inside = ["nsenter", "-t", str(self.pid), "--net", "--uts", "--mount", "--pid", "--", "env", "-C", str(cwd)]
        return [*inside, *map(str, command)]

    def start(self, *command, log, cwd="/", env=None):
        """Start a command on this machine. It ends with the machine at the latest."""
        with open(log, "a") as file:
            return subprocess.Popen(self.command(*command, cwd=cwd), env=env, stdout=file, stderr=subprocess.STDOUT)

    def run(self, *command, cwd="/", env=None, timeout=60):
        """Run a command on this machine and return its standard output."""
        done = subprocess.run(self.command(*command, cwd=cwd), env=env, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{command} on {self.name}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def power_off(self):
        """End all processes of the machine at once, and its network."""
        if self.holder.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.holder.wait(30)
        self.holder.stdout.close()


class Network:
    """Machines ``node0``, ``node1``, ... with addresses 10.99.0.1, 10.99.0.2, ... behind one switch.

    Args:
        folder (Path): Folder for the file of host names.
        size (int): Number of machines.
    """

    def __init__(self, folder, size):
        self.machines = []
        hosts = folder / "hosts"
        hosts.write_text("127.0.0.1 localhost\n" + "".join(f"10.99.0.{i + 1} node{i}\n" for i in range(size)))
        self.hosts = hosts
        try:
            self.switch = Machine("switch")
            self.machines.append(self.switch)
            self.switch.run("ip", "link", "add", "bridge0", "type", "bridge")
            self.switch.run("ip", "link", "set", "bridge0", "up")
            self.nodes = [self._add(i) for i in range(size)]
        except BaseException:
            self.close()
            raise

    def _add(self, number):
        node = Machine(f"node{number}", self.hosts)
        self.machines.append(node)
        # not by Machine.run: the switch has other process numbers
        inside = ["nsenter", "-t", str(self.switch.pid), "--net", "ip", "link", "add", node.name, "type", "veth"]
        subprocess.run([*inside, "peer", "name", "eth0", "netns", str(node.pid)], env=_environment(), check=True)
        self.switch.run("ip", "link", "set", node.name, "master", "bridge0", "up")
        node.run("ip", "address", "add", f"10.99.0.{number + 1}/24", "dev", "eth0")
        node.run("ip", "link", "set", "eth0", "up")
        return node

    def replace(self, node):
        """Return a new machine in the place of one that was powered off."""
        number = self.nodes.index(node)
        # the kernel removes the link of an ended namespace some time later, or never if a socket still uses it
        subprocess.run(
            self.switch.command("ip", "link", "delete", node.name), env=_environment(), stderr=subprocess.DEVNULL
        )
        self.nodes[number] = self._add(number)
        return self.nodes[number]

    def unplug(self, node):
        """Take the link of a machine down."""
        self.switch.run("ip", "link", "set", node.name, "down")

    def plug(self, node):
        """Take the link of a machine up again."""
        self.switch.run("ip", "link", "set", node.name, "up")

    def close(self):
        """End all machines."""
        for machine in reversed(self.machines):
            machine.power_off()

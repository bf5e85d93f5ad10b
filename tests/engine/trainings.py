"""Trainings as by tools/train.py, for tests that interrupt them. ``python trainings.py`` forks one for each input line.

A line is a dict in JSON: ``config``, ``work_dir``, ``options`` (changes of the config), ``resume`` (as for
``--resume``), ``output`` (a file for the output) and ``processes`` (their number). The answer is a line with the first
process, and a line with the exit statuses (-9 for a killed process). The processes form their own group. They are
forked from this one, which has imported everything: otherwise an early interruption would hit the imports.
"""

import json
import os
import socket
import subprocess
import sys
import traceback
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "train.py"


class Trainings:
    """Starter of trainings, one at a time.

    Args:
        folder: The folder that contains ``data/moving_digits``.
        env: Environment variables to set.
    """

    def __init__(self, folder, **env):
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **env}
        command = [sys.executable, "-W", "ignore", __file__]
        self.server = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, **job):
        """Start a training and return its process."""
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def wait(self):
        """Wait for the end of a training. Return its exit status, or a list of them for several processes."""
        statuses = json.loads(self.server.stdout.readline())
        return statuses[0] if len(statuses) == 1 else statuses

    def run(self, **job):
        """Train to the end and return the result of :meth:`wait`."""
        self.start(**job)
        return self.wait()

    def close(self):
        self.server.stdin.close()
        self.server.wait(60)


def train(config, work_dir, options, output, resume=None, processes=1):
    """Train as the tool does and return the exit status."""
    from maskfeat_plugin.apis import build_trainer, load_config, train
    from maskfeat_plugin.running.command_line import run_tool

    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)

    def work():
        cfg = load_config(config, work_dir, options, "none" if processes == 1 else "pytorch", resume=resume)
        train(build_trainer(cfg))

    try:
        return run_tool(work)
    except SystemExit as end:
        return end.code
    except BaseException:
        traceback.print_exc()
        return 99


def main():
    import interruptions  # noqa: F401 (registers the hooks of the tests)
    import torch.utils.tensorboard  # noqa: F401 (once, before the fork)

    import maskfeat_plugin  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = json.loads(line)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        size, children = job.get("processes", 1), []
        for rank in range(size):
            child = os.fork()
            if child == 0:
                os.setpgid(0, children[0] if children else 0)
                world = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE=size, RANK=rank, LOCAL_RANK=rank)
                os.environ.update({name: str(value) for name, value in world.items()} if size > 1 else {})
                status = 98
                try:
                    status = train(**job)
                finally:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    os._exit(status)
            os.setpgid(child, children[0] if children else child)
            children.append(child)
        print(children[0], file=answers, flush=True)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        print(json.dumps(statuses), file=answers, flush=True)


if __name__ == "__main__":
    main()

"""Trainings as tools/train.py does them, for tests that interrupt them: ``python trainings.py`` forks one a line.

A line is a dict in JSON: ``config``, ``work_dir``, what is changed in the config (``options``), ``resume`` as for
``--resume``, and ``output``, a file for what it says. The answer is a line with its process, and one with its exit
status (-9 if it was killed). The process, its own group, is forked from this one, which has imported everything: an
interruption in the first seconds would otherwise be one of the imports.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "train.py"


class Trainings:
    """Starts trainings, one at a time.

    Args:
        folder: Where ``data/moving_digits`` is.
        env: Variables to set.
    """

    def __init__(self, folder, **env):
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **env}
        command = [sys.executable, "-W", "ignore", __file__]
        self.server = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, **job):
        """Start a training; its process."""
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def wait(self):
        """Wait for its end; its exit status."""
        return int(self.server.stdout.readline())

    def run(self, **job):
        """Train to the end; the exit status."""
        self.start(**job)
        return self.wait()

    def close(self):
        self.server.stdin.close()
        self.server.wait(60)


def train(config, work_dir, options, output, resume=None):
    """Train as the tool does; the exit status."""
    from maskfeat_plugin.apis import build_trainer, load_config, run_tool, train

    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)

    def work():
        cfg = load_config(config, work_dir, options, resume=resume)
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
        child = os.fork()
        if child == 0:
            os.setpgrp()
            status = 98
            try:
                status = train(**json.loads(line))
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        print(child, file=answers, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    main()

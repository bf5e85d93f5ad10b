"""No import needs Linux: the process of this test lacks Python's modules and functions for Unix."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# The libraries are imported first, because each has its own code for other systems.
LIBRARIES = """
import av, cv2, matplotlib.pyplot, mmcv, mmdet, mmengine.runner, mmpretrain, sys, torch.distributed.checkpoint, tqdm
"""
TAKE_AWAY = """
import os, signal, sys
for name in ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None
for module, names in (
    (os, "fork forkpty getloadavg getuid geteuid killpg mkfifo register_at_fork sched_getaffinity setsid statvfs "
         "sysconf uname wait4"),
    (signal, "SIGALRM SIGCHLD SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 pthread_sigmask setitimer sigwait sigwaitinfo"),
):
    for name in names.split():
        delattr(module, name)
"""
IMPORT_ALL = """
import importlib, pkgutil
import maskfeat_plugin
for module in pkgutil.walk_packages(maskfeat_plugin.__path__, "maskfeat_plugin."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from maskfeat_cli import COMMANDS
from maskfeat_cli.commands import load_main, tools_folder
for tool in tools_folder().rglob("*.py"):
    if tool.parent.name != "docs":
        load_main(tool)
"""
FALL_BACK = """
from pathlib import Path
from torch.utils.data import DataLoader
from maskfeat_plugin.config.structure import limited_size
from maskfeat_plugin.running.versions import describe_cpu
from maskfeat_plugin.datasets.bad_file_list import BadFile, BadFileList
from maskfeat_plugin.engine.hooks.termination_hook import TerminationHook, _shield
with limited_size():
    torch.nn.Linear(2, 2)
assert int(describe_cpu().split(", ")[-1].split()[0]) >= 1
a, b = {"a.mp4": BadFile("cut short")}, {"b.mp4": BadFile("empty")}
assert BadFileList(Path(sys.argv[1])).add(a) == ["a.mp4"]
assert BadFileList(Path(sys.argv[1])).add(a | b) == ["b.mp4"]
loader = DataLoader([1, 2], num_workers=1)
_shield(loader, TerminationHook().signals)
assert loader.worker_init_fn is None
print("falls back")
"""


def run(code, *arguments):
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_module_is_imported_and_falls_back(tmp_path):
    done = run(LIBRARIES + TAKE_AWAY + IMPORT_ALL + FALL_BACK, tmp_path / "bad_files.txt")
    assert done.stdout.splitlines()[-1:] == ["falls back"], done.stderr[-3000:]


def test_the_command_says_its_help():
    done = run(TAKE_AWAY + "from maskfeat_cli import main; sys.exit(main(['--help']))")
    assert done.returncode == 0 and "maskfeat COMMAND" in done.stdout, done.stderr[-3000:]

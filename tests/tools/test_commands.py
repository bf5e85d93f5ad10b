"""Tests of the command ``maskfeat`` in a checkout and in an installed wheel."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import maskfeat_cli

ROOT = Path(__file__).parents[2]
MASKFEAT = Path(sys.executable).with_name("maskfeat")

STOPPED = """
_base_ = "pretrain.py"
custom_imports = dict(imports=["maskfeat_plugin", "stop_in_test"], allow_failed_imports=False)
default_hooks = dict(checkpoint=dict(type="maskfeat.CheckpointHook"))
custom_hooks = [dict(type="maskfeat.TerminationHook"), dict(type="maskfeat.StopInTest")]
"""
HOOK = """
import os, signal
from mmengine.hooks import Hook
from maskfeat_plugin.registry import HOOKS

@HOOKS.register_module()
class StopInTest(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 3:
            os.kill(os.getpid(), signal.SIGTERM)
"""


def run(*command, cwd=None, **env):
    env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=env)


def test_help_lists_every_command_in_a_line_without_importing_torch():
    done = run(MASKFEAT, "--help")
    assert done.returncode == 0
    lines = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and len(line) < 100]
    assert [name for name in lines if name in maskfeat_cli.COMMANDS] == list(maskfeat_cli.COMMANDS)
    assert "example:\n  maskfeat train maskfeat_vit-tiny_moving-digits --" in done.stdout
    code = "import sys, maskfeat_cli; maskfeat_cli.main(['--help']); print({'torch', 'mmengine'} & set(sys.modules))"
    assert run(sys.executable, "-c", code).stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("name", [name for name, command in maskfeat_cli.COMMANDS.items() if command.tool])
def test_a_command_is_a_tool(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["maskfeat"])  # the command changes it; monkeypatch restores it
    assert maskfeat_cli.commands.tools_folder() == ROOT / "tools"
    with pytest.raises(SystemExit) as end:
        maskfeat_cli.main([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: maskfeat {name} ") and "example" in text


@pytest.mark.parametrize("arguments", [["knn", "a.py", "a.pth"], ["export", "a.py", "a.pth", "a.onnx"]])
def test_launcher_is_for_commands_that_share_their_work(arguments, monkeypatch, capsys):
    """Check that other commands refuse ``--launcher``: each process would do all the work."""
    monkeypatch.setattr(sys, "argv", ["maskfeat"])
    with pytest.raises(SystemExit, match="2"):
        maskfeat_cli.main([*arguments, "--launcher", "pytorch"])
    assert "unrecognized arguments: --launcher pytorch" in capsys.readouterr().err


@pytest.mark.parametrize("typed, meant", [("tran", "train"), ("convert_checkpoint", "convert"), ("docter", "doctor")])
def test_an_unknown_command_names_the_nearest(typed, meant):
    done = run(MASKFEAT, typed, "config.py")
    assert done.returncode == 2 and done.stdout == ""
    assert f"no command '{typed}'; did you mean {meant}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_command_unlike_any_gets_the_list():
    assert ", ".join(maskfeat_cli.COMMANDS) in run(MASKFEAT, "qqq").stderr
    done = run(MASKFEAT)
    assert done.returncode == 2 and "commands:" in done.stderr


def test_exit_statuses_are_those_of_the_tools(project):
    missing = run(MASKFEAT, "train", "none.py", cwd=project)
    assert missing.returncode == 1 and missing.stderr.splitlines()[-1].startswith("error: "), missing.stderr
    done = run(sys.executable, "-W", "ignore", "-m", "maskfeat_cli", "test", "pretrain.py", cwd=project)
    assert done.returncode == 2 and "maskfeat test: error" in done.stderr and "CHECKPOINT" in done.stderr


def test_an_installed_wheel_trains_and_ends_with_75_on_sigterm(project, installed_wheel):
    (project / "stopped.py").write_text(STOPPED)
    (project / "stop_in_test.py").write_text(HOOK)
    path = os.pathsep.join(map(str, (installed_wheel, project)))
    script = installed_wheel / "bin" / "maskfeat"
    assert f"{installed_wheel}/maskfeat_plugin/.mim/tools/train.py" in run(script, "--help", PYTHONPATH=path).stdout
    done = run(sys.executable, "-W", "ignore", script, "train", "stopped.py", cwd=project, PYTHONPATH=path)
    assert done.returncode == 75, done.stderr
    assert list((project / "work_dirs" / "stopped").glob("*.pth"))

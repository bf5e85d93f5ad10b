"""The warm Python, which has imported everything, behaves like the real one."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from warm_python import python

REPORT = "import json, os, sys; print(json.dumps([sys.argv, os.getcwd(), os.environ.get('KEY'), sys.stdin.read()]))"


def call(*arguments, **settings):
    return subprocess.run([python(), *map(str, arguments)], capture_output=True, text=True, **settings)


def test_arguments_folder_environment_and_streams(tmp_path):
    done = call("-W", "ignore", "-c", REPORT, "a b", cwd=tmp_path, input="in", env=dict(os.environ, KEY="ü"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f'[["-c", "a b"], "{tmp_path}", "\\u00fc", "in"]\n'


def test_a_script_and_what_lies_beside_it(tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 3")
    (tmp_path / "script.py").write_text("import sys, beside\nif __name__ == '__main__':\n    sys.exit(beside.VALUE)\n")
    assert call(tmp_path / "script.py").returncode == 3


def test_the_plugin_is_not_there_before_it_is_imported():
    code = "import sys; print('torch' in sys.modules, 'maskfeat_plugin' in sys.modules, 'mmaction' in sys.modules)"
    assert call("-c", code).stdout == "True False False\n"


@pytest.mark.parametrize("code, status", [("raise ValueError('a')", 1), ("import os; os.kill(os.getpid(), 9)", -9)])
def test_ends_that_are_errors(code, status):
    done = call("-c", code)
    assert done.returncode == status and ("ValueError: a\n" in done.stderr) == (status == 1)


def test_signals_and_kills_reach_the_program():
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = subprocess.Popen([python(), "-c", code], stdout=subprocess.PIPE, text=True)
        child = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(20) == -number
        assert process.stdout.read() == ""  # the stream is closed, because the program has ended
        assert not Path(f"/proc/{child}/exe").exists()  # a zombie process has no exe


def test_another_package_of_the_same_name_is_imported_by_the_real_python(tmp_path):
    (tmp_path / "maskfeat_plugin").mkdir()
    (tmp_path / "maskfeat_plugin" / "__init__.py").write_text("print('another')")
    code = "import sys, maskfeat_plugin; print('torch' in sys.modules)"
    done = call("-c", code, cwd="/", env=dict(os.environ, PYTHONPATH=str(tmp_path)))
    assert done.stdout == "another\nFalse\n", done.stderr


def test_callers_that_are_killed_at_any_moment_leave_the_server_alone():
    for delay in (0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16):
        process = subprocess.Popen([python(), "-c", "import time; time.sleep(0.05)"])
        time.sleep(delay)
        process.kill()
        process.wait(20)
    with socket.socket(socket.AF_UNIX) as half_a_call:
        half_a_call.connect(str(Path(python()).with_name("socket")))
        half_a_call.sendall((100).to_bytes(8, "little") + b"{")
    assert call("-c", "import sys; print('torch' in sys.modules)").stdout == "True\n"  # imported by the server

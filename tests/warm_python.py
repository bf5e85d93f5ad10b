"""Python that has already imported torch and the frameworks, for tests that run many programs.

The imports take several times as long as the rest of most programs. :func:`python` returns a program that command lines
can use like Python. A server, started once per test process, forks for each call. The child runs the script, module or
code with the arguments, streams, folder and environment of the call. If the environment would change Python or the
imports, the call runs the real Python. The plugin is not imported before: a program that forgets to import it has to
fail. Tests of the order of imports run the real Python.
"""

import atexit
import contextlib
import functools
import gc
import json
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
import warnings
from pathlib import Path

# Without mmaction2, because the plugin has to be imported before it
IMPORTS = "av cv2 matplotlib.pyplot mmdet.apis mmpretrain.apis scipy.stats torch.distributed.run".split()
# Variables that Python reads at its start or during the imports
READ_EARLY = ("PYTHON", "LD_", "LC_", "LANG", "TRITON_", "MMENGINE_")
ROOT = Path(__file__).resolve().parents[1]
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
CLIENT = """#!{python} -IS
import os, signal, socket, struct, sys, json
early, variables = {early!r}, {variables!r}
now = {{name: value for name, value in os.environ.items() if name.startswith(early)}}
paths = now.pop("PYTHONPATH", "").split(os.pathsep)
others = [path for path in paths if path and os.path.isdir(path + "/maskfeat_plugin") and path != {root!r}]
if now != variables or others:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
call = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ), os.umask(os.umask(0o22))]).encode()
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
    try:
        server.connect({address!r})
    except OSError:  # the server is gone; tests/test_warm_python.py notices
        os.execv({python!r}, [{python!r}, *sys.argv[1:]])
    socket.send_fds(server, [struct.pack("q", len(call))], [0, 1, 2])
    server.sendall(call)
    (child,) = struct.unpack("q", server.recv(8))
    for number in {forwarded!r}:
        signal.signal(number, lambda number, frame: os.kill(child, number))
    (status,) = struct.unpack("q", server.recv(8))
if status < 0:
    if -status != signal.SIGKILL:
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
"""


@functools.cache
def folder(executable=sys.executable):
    """Return a folder for PATH with ``python`` and the programs of an environment that are written in Python.

    Args:
        executable: Python of the environment. Defaults to this one.
    """
    out = Path(tempfile.mkdtemp(prefix="warm-python-"))
    address = str(out / "socket")
    variables = {name: value for name, value in os.environ.items() if name.startswith(READ_EARLY)}
    variables.pop("PYTHONPATH", None)
    facts = dict(python=str(executable), early=READ_EARLY, variables=variables, address=address, root=str(ROOT))
    facts["forwarded"] = [int(number) for number in FORWARDED]
    (out / "python").write_text(CLIENT.format(**facts))
    for name in ("maskfeat", "mim", "torchrun"):
        program = Path(executable).with_name(name)
        if program.is_file():
            (out / name).write_text(f"#!{out / 'python'}\n" + program.read_text().split("\n", 1)[1])
    for path in out.iterdir():
        path.chmod(0o755)
    paths = os.environ.get("PYTHONPATH", "") if executable == sys.executable else ""
    server = subprocess.Popen(
        [executable, __file__, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=paths),
    )
    assert server.stdout.readline() == b"ready\n"
    atexit.register(shutil.rmtree, out, ignore_errors=True)
    # It would end with its input, but a dataloader's worker may hold that open
    atexit.register(server.kill)
    return out


def python():
    """Return the path of the program to call instead of ``sys.executable``."""
    return str(folder() / "python")


def serve(address):
    """Fork for each call until the input ends."""
    for name in IMPORTS:
        __import__(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    assert threading.active_count() == 1, threading.enumerate()  # a fork has only the thread that calls it
    gc.freeze()  # else the garbage collector would touch, and so copy, memory that is shared with the children
    wake_up, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake)
    selector = selectors.DefaultSelector()
    for source in (0, listener, wake_up):
        selector.register(source, selectors.EVENT_READ)
    calls = {}
    os.write(1, b"ready\n")
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:
                os._exit(0)
            elif key.fileobj is listener:
                call = listener.accept()[0]
                try:
                    streams, what = read(call)
                except (EOFError, OSError):  # the caller was killed
                    call.close()
                    continue
                child = os.fork()
                if not child:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for connection in (listener, call, *calls.values()):
                        connection.close()
                    return become(streams, *what)
                for stream in streams:
                    os.close(stream)
                calls[child] = call
                tell(call, child)
                selector.register(call, selectors.EVENT_READ, child)
            elif key.fileobj == wake_up:
                os.read(wake_up, 4096)
                end_calls(calls, selector)
            elif key.data in calls:  # the caller was killed
                os.kill(key.data, signal.SIGKILL)
                selector.unregister(key.fileobj)


def end_calls(calls, selector):
    """Report the end of each finished child to its caller."""
    while calls:
        child, status = os.waitpid(-1, os.WNOHANG)
        if not child:
            return
        call = calls.pop(child)
        if call in selector.get_map():
            selector.unregister(call)
            tell(call, os.waitstatus_to_exitcode(status))
        call.close()


def tell(call, number):
    """Send a number to the caller, which may be killed at any time."""
    with contextlib.suppress(OSError):
        call.sendall(number.to_bytes(8, "little", signed=True))


def read(call):
    """Return the streams of a call, and its command line, folder, environment and mask of permissions."""
    head, streams, _, _ = socket.recv_fds(call, 8, 3)
    text = bytearray()
    while len(text) < (int.from_bytes(head, "little") or 1):
        part = call.recv(1 << 20)
        if not part:
            for stream in streams:
                os.close(stream)
            raise EOFError
        text += part
    return streams, json.loads(text)


def become(streams, arguments, working, environment, mask):
    """Give this process the streams, arguments, folder, environment and mask of a call. Return the command line."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(working)
    os.umask(mask)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    return arguments


def run(arguments):
    """Run a command line as ``python ARGUMENTS`` would."""
    import numpy as np
    import torch

    random.seed()
    np.random.seed()
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    sys.executable = str(Path(sys.argv[1]).with_name("python"))  # programs that it starts use the warm Python too
    while arguments[0] in ("-u", "-W"):
        option = arguments.pop(0)
        if option == "-u":
            sys.stdout.reconfigure(write_through=True)
        else:
            assert arguments.pop(0) == "ignore"
            warnings.simplefilter("ignore")
    kind = arguments[0] if arguments[0] in ("-c", "-m") else None
    if kind == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(arguments[1], "<string>", "exec"), main.__dict__)
    elif kind == "-m":
        sys.argv, sys.path[0] = arguments[1:], os.getcwd()
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


def end(work):
    """Do the work and exit as Python does, but without freeing memory, because freeing would copy all of it."""
    status = 0
    try:
        work()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        status = 120
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    arguments = serve(sys.argv[1])
    end(lambda: run(arguments))

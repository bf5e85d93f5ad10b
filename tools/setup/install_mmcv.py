"""Install mmcv with compiled ops into this Python's environment: found, from the cache, or built.

mmcv 2.1.0 has no wheel for today's torch. Its own build parses torch's headers once for each of 95
files, which takes 10 minutes on 2 cores. Here the files are joined into a few compilation units.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MMCV_VERSION = "2.1.0"
CFLAGS = "-O1 -g0 -w"
COMPILERS = ("c++", "g++", "clang++")
# Units that the files of csrc/pytorch/cpu become, beside the one of the dispatchers.
CPU_UNITS = 2
# These define macros or functions that clash with other files, so each stays a unit of its own.
CLASHING = {"psamask.cpp", "roi_align.cpp", "roi_align_rotated.cpp", "rotated_feature_align.cpp"}
# Memory that one compilation unit needs at most, for the number of jobs.
BYTES_PER_JOB = 2 * 1024**3

PROBE = """
import json, torch
print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.is_available()]))
"""

# Small cases with known results: imports alone do not show that the ops match the installed torch.
VERIFY = """
import sys, torch, mmcv
from mmcv.ops import nms, roi_align
assert mmcv.__version__ == sys.argv[1], f"it is mmcv {mmcv.__version__}, not {sys.argv[1]}"
boxes = torch.tensor([[0., 0., 10., 10.], [0., 0., 9., 10.], [20., 20., 30., 30.]])
assert nms(boxes, torch.tensor([.9, .8, .7]), .5)[1].tolist() == [0, 2], "NMS is wrong"
image = torch.full((1, 1, 8, 8), 3., requires_grad=True)
crops = roi_align(image, torch.tensor([[0., 1., 1., 6., 6.]]), (2, 2), 1., 2, "avg", True)
assert torch.allclose(crops, torch.full((1, 1, 2, 2), 3.)), "RoIAlign is wrong"
crops.sum().backward()
assert abs(image.grad.sum().item() - 4) < 1e-4, "RoIAlign's gradient is wrong"
if torch.cuda.is_available():
    try:
        nms(boxes.cuda(), torch.tensor([.9, .8, .7]).cuda(), .5)
    except RuntimeError:
        print("without GPU ops")
"""


class SetupError(Exception):
    """Something the user has to put right; its text is all they need to see."""


@dataclass(frozen=True)
class Target:
    """What a wheel is built for: two targets with one :attr:`key` can share it."""

    mmcv: str
    torch: str
    cuda: str | None
    python: str
    platform: str
    gpu: bool
    flags: str

    @property
    def key(self) -> str:
        """Folder name in the cache: every field of the target, the build recipe as a hash."""
        recipe = [self.flags, CPU_UNITS, sorted(CLASHING)]
        digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:8]
        torch = self.torch.split("+")[0]
        cuda = "cu" + self.cuda.replace(".", "") if self.cuda else "cpu"
        ops = "gpu" if self.gpu else "cpu"
        return f"mmcv{self.mmcv}-torch{torch}+{cuda}-{self.python}-{self.platform}-{ops}ops-{digest}"


def cache_root() -> Path:
    """Folder of the plugin in the user's cache, ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "maskfeat_plugin", "wheels")


def say(text: str) -> None:
    """Print a line of progress at once."""
    print(f"mmcv: {text}", flush=True)


def probe_torch() -> tuple[str, str | None, bool]:
    """Version of the installed torch, its CUDA version, and whether it sees a GPU.

    Raises:
        SetupError: torch does not import.
    """
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"torch has to be installed before mmcv: {last_line(done.stderr)}")
    torch, cuda, gpu = json.loads(done.stdout)
    return torch, cuda, gpu


def last_line(text: str) -> str:
    """Last line of a program's output that is not blank."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "no output")


def find_nvcc(path: str | None = None) -> str | None:
    """The CUDA compiler: of ``$CUDA_HOME``, on the search path, or at its usual place."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    for home in filter(None, homes):
        found = shutil.which("nvcc", path=str(Path(home, "bin")))
        if found:
            return found
    return shutil.which("nvcc", path=path)


def why_no_gpu_ops(cuda: str | None) -> str | None:
    """Why mmcv's GPU ops cannot be built on a machine with a GPU, or None if they can.

    Args:
        cuda: CUDA version that torch was built with, such as ``13.0``.
    """
    nvcc = find_nvcc()
    if cuda is None or nvcc is None:
        return "no CUDA compiler (nvcc, CUDA_HOME)"
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
    release = re.search(r"release (\d+)\.", text)
    if release is None or release[1] != cuda.split(".")[0]:
        return f"{nvcc} is not of torch's CUDA {cuda}"
    return None


def check_toolchain() -> str:
    """The C++ compiler to use.

    Raises:
        SetupError: There is no compiler, or the headers of Python are missing.
    """
    advice = f"install them (Debian, Ubuntu: apt install g++ python{sys.version_info[0]}-dev)"
    chosen = os.environ.get("CXX")
    candidates = (chosen.split()[0],) if chosen else COMPILERS
    compiler = next((name for name in candidates if shutil.which(name)), None)
    if compiler is None:
        raise SetupError(
            "building mmcv's ops needs a C++ compiler and Python's headers, and none of "
            f"{', '.join(candidates)} was found: {advice}"
        )
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.is_file():
        raise SetupError(
            f"building mmcv's ops needs a C++ compiler and Python's headers, and {header} is missing: {advice}"
        )
    return chosen or compiler


def join_sources(pytorch: Path) -> list[Path]:
    """Join mmcv's C++ files into a few compilation units, so that torch's headers are parsed once each.

    Args:
        pytorch: mmcv's ``mmcv/ops/csrc/pytorch``; its files are moved to folders that mmcv's
            ``setup.py`` does not compile, and the units that include them take their place.

    Returns:
        The units written.
    """
    dispatchers = sorted(f for f in pytorch.glob("*.cpp") if f.name != "pybind.cpp")
    kernels = sorted(f for f in (pytorch / "cpu").glob("*.cpp") if f.name not in CLASHING)
    if not dispatchers or not kernels:
        raise SetupError(f"{pytorch} is not mmcv's source tree")
    units = [_join(dispatchers, pytorch, "dispatch")]
    for i in range(CPU_UNITS):
        units.append(_join(kernels[i::CPU_UNITS], pytorch / "cpu", f"joined{i}"))
    return units


def _join(files: list[Path], folder: Path, name: str) -> Path:
    aside = folder / name
    aside.mkdir()
    for file in files:
        # Relative includes have to keep working from one folder deeper.
        os.replace(file, aside / file.name)
    unit = folder / f"{name}_unit.cpp"
    unit.write_text("".join(f'#include "{name}/{file.name}"\n' for file in files))
    return unit


def leave_standard_to_torch(setup: Path) -> None:
    """Take the C++ standard out of mmcv's ``setup.py``: torch adds its own, from 2.14 or 2.15 on C++20.

    Args:
        setup: The file; it is changed.
    """
    setup.write_text(setup.read_text().replace("['-std=c++17']", "[]"))


def default_jobs() -> int:
    """Compilations at a time: as many as there are cores, fewer where memory is short."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return cores or 1
    return max(1, min(cores or 1, memory // BYTES_PER_JOB))


def download(folder: Path) -> Path:
    """Download and unpack mmcv's source release; returns its root folder."""
    say(f"downloading the source of mmcv {MMCV_VERSION} (about 20 seconds)")
    options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", f"mmcv=={MMCV_VERSION}", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    archive = next(folder.glob("mmcv-*.tar.gz"), None)
    if done.returncode or archive is None:
        raise SetupError(f"the source of mmcv did not download: {last_line(done.stderr)}")
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extractall(folder, filter="data")
        else:
            tar.extractall(folder)
    return folder / archive.name.removesuffix(".tar.gz")


class Progress:
    """Prints how far ninja is, from its ``[k/n]`` lines, and every 15 seconds in between."""

    _STEP = re.compile(r"^\[(\d+)/(\d+)\]")

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._state = "preparing"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def feed(self, line: str) -> None:
        """Take in a line of the build's output."""
        step = self._STEP.match(line)
        if step:
            done, total = int(step[1]), int(step[2])
            remaining = self.elapsed / done * (total - done)
            self._state = f"{done} of {total} units compiled, about {remaining:.0f} s to go"
            self._print()

    def _tick(self) -> None:
        while not self._stop.wait(15):
            self._print()

    def _print(self) -> None:
        say(f"building, {self.elapsed:.0f} s: {self._state}")


def build(target: Target, compiler: str, jobs: int, log: Path) -> Path:
    """Build the wheel of a target and put it into the cache.

    Args:
        target: What to build for.
        compiler: The C++ compiler.
        jobs: Compilations at a time.
        log: File for the build's output; it stays where the build fails.

    Returns:
        The wheel in the cache.

    Raises:
        SetupError: The source did not download or did not compile.
    """
    environment = {**os.environ, "MMCV_WITH_OPS": "1", "MAX_JOBS": str(jobs), "CXX": compiler}
    environment["CFLAGS"] = f"{target.flags} {os.environ.get('CFLAGS', '')}".strip()
    environment["FORCE_CUDA"] = "1" if target.gpu else "0"
    if not target.gpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with tempfile.TemporaryDirectory(prefix="mmcv-build-") as temporary:
        source = download(Path(temporary))
        units = join_sources(source / "mmcv" / "ops" / "csrc" / "pytorch")
        leave_standard_to_torch(source / "setup.py")
        size = "" if target.gpu else " (about a minute on 2 cores)"
        say(f"compiling the ops in {len(units)} joined units, {jobs} at a time{size}")
        with Progress() as progress, log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "setup.py", "bdist_wheel"],
                cwd=source,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            _copy_output(process, file, progress)
        wheel = next((source / "dist").glob("*.whl"), None)
        if process.returncode or wheel is None:
            tail = "\n".join(log.read_text().splitlines()[-30:])
            raise SetupError(f"the build failed. Its last lines:\n{tail}\nThe whole log: {log}")
        say(f"built in {progress.elapsed:.0f} s")
        kept = log.parent / wheel.name
        partial = kept.with_suffix(f".{os.getpid()}.partial")
        shutil.copyfile(wheel, partial)
        os.replace(partial, kept)
    return kept


def _copy_output(process: subprocess.Popen, file: IO[str], progress: Progress) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        file.write(line)
        progress.feed(line)
    process.wait()


def cached_wheel(folder: Path) -> Path | None:
    """The sound wheel in a folder of the cache, if there is one; broken ones are deleted."""
    for wheel in sorted(folder.glob("*.whl")):
        try:
            with zipfile.ZipFile(wheel) as archive:
                broken = archive.testzip()
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            broken = str(error)
        if broken is None:
            return wheel
        say(f"{wheel} is broken ({broken}), deleting it")
        wheel.unlink(missing_ok=True)
    return None


def install(wheel: Path) -> None:
    """Install a wheel, replacing what is there, with uv where it is at hand, or else pip."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv:
        command = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--no-deps"]
        command += ["--reinstall", str(wheel)]
    else:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--force-reinstall", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SetupError(f"{wheel} did not install: {last_line(done.stderr)}")


def verify() -> tuple[str | None, str]:
    """Import the installed mmcv in a new process and run NMS and RoIAlign, forward and backward.

    Returns:
        What is wrong, or None; and a remark, empty or about GPU ops that are absent.
    """
    command = [sys.executable, "-W", "ignore", "-c", VERIFY, MMCV_VERSION]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return last_line(done.stderr), ""
    return None, done.stdout.strip()


def ensure(force: bool, gpu_ops: bool, jobs: int | None) -> None:
    """Leave a working mmcv in the environment: the one there, a cached one, or a new one.

    Args:
        force: Build even if a working mmcv is installed or cached.
        gpu_ops: Build ops for the GPU, if there is one and its compiler.
        jobs: Compilations at a time; None for :func:`default_jobs`.

    Raises:
        SetupError: It cannot be done; the text says why.
    """
    if not force:
        fault, remark = verify()
        if fault is None:
            say(f"version {MMCV_VERSION} is installed and its ops work {remark}".strip())
            return
    torch, cuda, has_gpu = probe_torch()
    gpu = has_gpu and gpu_ops
    reason = why_no_gpu_ops(cuda) if gpu else None
    if reason:
        say(f"{reason}: building the CPU ops only, mmcv's GPU ops will be absent")
        gpu = False
    target = Target(
        mmcv=MMCV_VERSION,
        torch=torch,
        cuda=cuda,
        python=f"{sys.implementation.cache_tag}",
        platform=sysconfig.get_platform().replace("-", "_"),
        gpu=gpu,
        flags=CFLAGS,
    )
    folder = cache_root() / target.key
    wheel = None if force else cached_wheel(folder)
    if wheel:
        say(f"installing {wheel}")
        install(wheel)
        fault, _ = verify()
        if fault is None:
            say("its ops work")
            return
        say(f"the cached wheel does not work here ({fault}), deleting it")
        wheel.unlink(missing_ok=True)
    compiler = check_toolchain()
    folder.mkdir(parents=True, exist_ok=True)
    wheel = build(target, compiler, jobs or default_jobs(), folder / "build.log")
    install(wheel)
    fault, _ = verify()
    if fault:
        wheel.unlink(missing_ok=True)
        raise SetupError(f"the wheel just built does not work: {fault}")
    say(f"installed, its ops work; the wheel is kept as {wheel}")


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: .venv/bin/python tools/setup/install_mmcv.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--force", action="store_true", help="build even if a working mmcv exists")
    parser.add_argument("--cpu", action="store_true", help="leave the GPU ops out")
    parser.add_argument("--jobs", type=int, help="compilations at a time (default: by cores, memory)")
    options = parser.parse_args()
    if options.jobs is not None and options.jobs < 1:
        parser.error("--jobs has to be at least 1")
    try:
        ensure(options.force, not options.cpu, options.jobs)
    except SetupError as error:
        print(f"mmcv: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Tests of the set-up: constraints fit every Python, damaged files are found, and a killed set-up is repaired."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tool_modules import load_tool

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "requirements"
PYTHONS = ("3.10.0", "3.10.13", "3.11.0", "3.11.7", "3.12.1", "3.13.0")


def read(name):
    lines = (REQUIREMENTS / name).read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_requirement_has_one_version_for_every_python(python, machine):
    environment = dict(
        python_version=".".join(python.split(".")[:2]),
        python_full_version=python,
        platform_machine=machine,
        sys_platform="linux",
        extra="",
    )
    applies = lambda need: need.marker is None or need.marker.evaluate(environment)  # noqa: E731
    pins = {}
    for pin in filter(applies, read("constraints.txt")):
        [specifier] = pin.specifier
        assert specifier.operator == "=="
        assert pins.setdefault(pin.name, specifier.version) == specifier.version, pin.name
    needed = [need for file in REQUIREMENTS.glob("*.txt") if file.name != "constraints.txt" for need in read(file.name)]
    assert len(needed) > 40
    for need in filter(applies, needed):
        assert need.specifier.contains(pins[need.name]), need
    assert ("decord" in pins) == (machine == "x86_64")


@pytest.mark.long
@pytest.mark.parametrize(
    "platform", ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "windows"]
)
def test_requirements_resolve_for_other_platforms(platform):
    """Resolve with uv from the package index, without the tools that build the documentation."""
    files = [file for file in REQUIREMENTS.glob("*.txt") if file.stem not in ("constraints", "no_deps", "docs")]
    uv = Path(sys.executable).with_name("uv")
    command = [uv, "pip", "compile", "-q", "--python-platform", platform, "--python-version", "3.12", *files]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {line.split("==")[0] for line in done.stdout.splitlines() if "==" in line}
    assert {"torch", "mmdet", "mmcv-lite", "av"} <= found
    assert ({"mmaction2", "decord"} <= found) == (platform in ("x86_64-manylinux_2_28", "windows"))


@pytest.fixture
def check_files():
    return load_tool("setup/check_files")


def install(folder, name, content, listed):
    """Install a package of one file, with the file list of a wheel."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"shared.py,sha256={listed},{len(content)}\n{name}-1.0.dist-info/RECORD,,\n")
    (folder / "shared.py").write_bytes(content)
    return PathDistribution(info)


def test_one_flipped_bit_in_an_installed_file_is_found(check_files, tmp_path):
    content = b"answer = 42\n"
    (tmp_path / "whole").write_bytes(content)
    digest = check_files.compute_hash(tmp_path / "whole")
    package = install(tmp_path, "package", content, digest)
    assert check_files.find_damaged([package]) == {}
    file = tmp_path / "shared.py"
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        assert check_files.find_damaged([package]) == {"package==1.0": file}
    file.unlink()
    assert check_files.find_damaged([package]) == {"package==1.0": file}


def test_a_file_of_two_packages_is_whole_if_it_is_that_of_either(check_files, tmp_path):
    """Check a file that two packages list with different hashes, as OpenCV's packages do."""
    digests = []
    for content in (b"a", b"b"):
        (tmp_path / "file").write_bytes(content)
        digests.append(check_files.compute_hash(tmp_path / "file"))
    packages = [install(tmp_path, f"p{i}", bytes([97 + i]), digest) for i, digest in enumerate(digests)]
    assert check_files.find_damaged(packages) == {}
    (tmp_path / "shared.py").write_bytes(b"c")
    assert sorted(check_files.find_damaged(packages)) == ["p0==1.0", "p1==1.0"]


def test_an_old_python_is_refused_in_one_line(tmp_path):
    old = tmp_path / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    script = ROOT / "tools" / "setup" / "make_venv.sh"
    done = subprocess.run(["sh", script, tmp_path / "venv", old], capture_output=True, text=True)
    assert done.returncode == 1 and "is not Python 3.10 or later" in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "venv").exists()


@pytest.mark.long
def test_a_set_up_killed_at_any_point_is_made_good_by_the_next(tmp_path):
    """Set up a clean clone without a compiler. The packages come from the cache or from the index."""
    checkout, tools = tmp_path / "checkout", tmp_path / "bin"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
    tools.mkdir()
    for name in ("sh", "make", "git", "flock", "dirname", "rm", "touch", "uname"):
        (tools / name).symlink_to(shutil.which(name))
    env = {**os.environ, "PATH": str(tools), "VIRTUAL_ENV": ""}
    command = ["make", "setup", f"PYTHON={sys.base_prefix}/bin/python3"]
    run = dict(cwd=checkout, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    python = checkout / ".venv" / "bin" / "python"
    generator = random.Random(0)
    for trial in range(5):
        process = subprocess.Popen(command, start_new_session=True, **run)
        if trial == 0:  # just after Python appears, before it has pip
            while not python.exists():
                time.sleep(0.001)
        else:
            time.sleep(generator.uniform(1, 20))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    last = subprocess.run(command, text=True, **run)
    assert last.returncode == 0, last.stdout
    code = "from mmdet.apis import DetInferencer; import maskfeat_plugin; print('works')"
    done = subprocess.run([python, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=checkout)
    assert done.stdout.split()[-1:] == ["works"], done.stderr

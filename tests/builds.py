"""Functions that build the package as pip does, and install it into a folder, without a network."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("maskfeat_plugin", "maskfeat_cli", "configs", "tools", "requirements", "projects")


def copy_sources(folder):
    """Copy the files that a build reads, so that the build leaves no files in the checkout.

    Returns:
        The folder.
    """
    folder.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".mim", "build", "*.egg-info"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


def build(source, kind, out):
    """Build with the backend that pyproject.toml names, in this environment.

    Args:
        source: The folder with setup.py.
        kind: "sdist" or "wheel".
        out: The folder to write to.

    Returns:
        The built file.
    """
    out.mkdir(exist_ok=True)
    code = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
    command = [sys.executable, "-W", "ignore", "-c", code, f"build_{kind}", str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [file] = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return file


def install(wheel, site):
    """Install a wheel into a folder, for PYTHONPATH."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return site

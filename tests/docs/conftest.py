"""Fixtures of the tests of pages."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import warm_python


@pytest.fixture(scope="session")
def environment(installed_wheel, tmp_path_factory):
    """A fresh virtual environment with the wheel and its dependencies; the checkout is not in it."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    python = folder / "bin" / "python"
    [packages] = folder.glob("lib/python*/site-packages")
    # Python does not read a .pth file inside these folders, such as the checkout's
    (packages / "wheel.pth").write_text(f"{installed_wheel}\n{sysconfig.get_path('purelib')}\n")
    for program in (installed_wheel / "bin" / "maskfeat", Path(sys.executable).with_name("mim")):
        copy = folder / "bin" / program.name
        copy.write_text(f"#!{python}\n" + program.read_text().split("\n", 1)[1])
        copy.chmod(0o755)
    command = [python, "-I", "-c", "import importlib.util as u; print(u.find_spec('maskfeat_plugin').origin)"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert found.stdout.startswith(str(installed_wheel)), found
    return folder


@pytest.fixture(scope="session")
def programs(environment):
    """A folder with the ``python``, ``maskfeat`` and ``mim`` of this environment, which have imported torch already."""
    return warm_python.folder(environment / "bin" / "python")

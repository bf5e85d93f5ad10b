"""``maskfeat doctor``: nothing to say of a sound environment, and what to do about broken ones."""

import json
import os
import subprocess
import sys

import pytest


def doctor(*arguments, **env):
    command = [sys.executable, "-m", "maskfeat_cli", "doctor", *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(command, capture_output=True, text=True, env=env)


def findings_of(done):
    found = {}
    for finding in json.loads(done.stdout):
        found.setdefault(finding["check"], []).append(finding)
    return found


def put_package(folder, name, code, version=None):
    """A package that Python finds before the installed one, with metadata of a version if there is one."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(code)
    if version:
        put_metadata(folder, name, version)


def put_metadata(folder, name, version):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.slow
def test_this_environment_is_sound():
    done = doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    assert lines[-1].startswith("0 errors, ")
    first = {line.split()[0] for line in lines if not line.startswith(" ")}
    assert "error" not in first and "ok" in first
    for check in ("torch", "mmcv ops", "av", "decord", "registry", "oneDNN", "GPU", "/dev/shm", "open files"):
        assert any(line.split(maxsplit=1)[1].startswith(check) for line in lines[:-1] if line.startswith("ok")), check
    assert "mmaction2-drn is active" in done.stdout and "8 frames of H.264 are read" in done.stdout


@pytest.mark.slow
def test_each_fault_is_told_with_its_remedy(tmp_path):
    """An mmcv without ops, no decord, versions that were not tested."""
    put_package(tmp_path, "mmcv", '__version__ = "2.1.0"')
    put_package(tmp_path, "decord", 'raise ImportError("libdecord.so: cannot open shared object file")')
    put_metadata(tmp_path, "mmengine", "0.9.0")
    put_metadata(tmp_path, "gradio", "3.0.0")
    done = doctor("--json", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and done.stderr == ""
    found = findings_of(done)
    [mmcv] = found["mmcv"]
    assert mmcv["status"] == "error" and "mmcv.ops" in mmcv["text"]
    assert mmcv["remedy"].startswith("python ") and "tools/setup/install_mmcv.py" in mmcv["remedy"]
    [decord] = found["decord"]
    assert decord["status"] == "error" and "libdecord.so" in decord["text"] and "pip install" in decord["remedy"]
    [mmengine] = found["mmengine"]
    assert mmengine["status"] == "warning" and "0.9.0 was not tested" in mmengine["text"]
    assert "mmengine" in mmengine["remedy"] and ">=0.10.7" in mmengine["remedy"]
    [gradio] = [finding for finding in found["extra web"] if finding["status"] == "warning"]
    assert "3.0.0" in gradio["text"]
    # what the faults do not touch is as it was
    assert [f["status"] for name in ("python", "torch", "opencv", "av", "disk") for f in found[name]] == ["ok"] * 5


def test_a_torch_that_ends_the_process_and_no_packaging_are_errors_like_any(tmp_path):
    put_package(tmp_path, "torch", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    put_package(tmp_path, "packaging", 'raise ModuleNotFoundError("No module named packaging", name="packaging")')
    done = doctor(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.startswith(("ok", "error"))]
    status = {row[1]: row[0] for row in rows}
    assert status["torch"] == status["mmcv"] == status["plugin"] == "error"
    assert status["packages"] == "error" and "-> pip install --force-reinstall packaging" in done.stdout
    assert status["disk"] == status["opencv"] == status["av"] == "ok"
    assert "status -11" in done.stdout and "-> install torch and torchvision together" in done.stdout

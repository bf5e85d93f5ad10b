"""Tests of ``maskfeat doctor``: no problem in a sound environment, and remedies for broken ones."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path


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
    """Write a package that Python finds before the installed one, with metadata if a version is given."""
    package = folder / name
    package.mkdir()
    (package / "__init__.py").write_text(code)
    if version:
        put_metadata(folder, name, version)


def put_metadata(folder, name, version):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


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


def link_mmcv(folder, operators=None):
    """Link the files of the installed mmcv into a folder, with other operators or without operators."""
    spec = importlib.util.find_spec("mmcv")
    (folder / "mmcv").mkdir()
    for file in Path(spec.origin).parent.iterdir():
        if not file.name.startswith(("_ext", "__pycache__")):
            (folder / "mmcv" / file.name).symlink_to(file)
    if operators:
        (folder / "mmcv" / "_ext.py").write_text(operators)


def test_mmcv_without_operators_and_a_set_up_that_was_interrupted_are_warnings(tmp_path):
    link_mmcv(tmp_path)
    put_metadata(tmp_path, "mmcv", "2.1.0")
    with_mark = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", with_mark], check=True)
    (tmp_path / "venv.unfinished").touch()
    path = os.pathsep.join([str(tmp_path), *sys.path[1:]])
    command = [with_mark / "bin" / "python", "-m", "maskfeat_cli", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    found = findings_of(done)
    assert done.returncode == 0, done.stdout
    both, none, works = found["mmcv"] + found["mmcv ops"]
    assert both["status"] == "warning" and "both installed" in both["text"] and "uninstall" in both["remedy"]
    assert none["status"] == "warning" and "projects/mmcv_ops" in none["remedy"]
    assert works["status"] == "ok" and "on top of torchvision's: NMS and RoIAlign run" in works["text"]
    [mark] = found["set-up"]
    assert mark["status"] == "warning" and mark["remedy"] == "make setup"


def test_each_fault_is_told_with_its_remedy(tmp_path):
    """Check an mmcv compiled for another torch, a decord that does not load, and untested versions."""
    link_mmcv(tmp_path, 'raise ImportError("_ext.so: undefined symbol: _ZN2at4_ops5zeros4callE")')
    put_package(tmp_path, "decord", 'raise ImportError("libdecord.so: cannot open shared object file")')
    put_metadata(tmp_path, "mmengine", "0.9.0")
    put_metadata(tmp_path, "gradio", "3.0.0")
    done = doctor("--json", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and done.stderr == ""
    found = findings_of(done)
    [mmcv] = found["mmcv"]
    assert mmcv["status"] == "error" and "undefined symbol" in mmcv["text"]
    assert mmcv["remedy"].startswith("pip install --force-reinstall --no-deps mmcv-lite==2.1.0")
    [decord] = found["decord"]
    assert decord["status"] == "error" and "libdecord.so" in decord["text"] and "pip install" in decord["remedy"]
    [mmengine] = found["mmengine"]
    assert mmengine["status"] == "warning" and "0.9.0 was not tested" in mmengine["text"]
    assert "mmengine" in mmengine["remedy"] and ">=0.10.7" in mmengine["remedy"]
    [gradio] = [finding for finding in found["extra web"] if finding["status"] == "warning"]
    assert "3.0.0" in gradio["text"]
    # the faults do not change the other checks
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

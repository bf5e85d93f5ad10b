"""The wheel is a complete installation: its files, its metadata, and all its commands, run from an empty folder."""

import email
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from functools import partial

import pytest
from builds import ROOT, build, copy_sources

IMAGE, CLASSES = "maskfeat_vit-tiny_moving-digits", "vit-tiny_moving-digits-class"
TWO_STEPS = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"]
TWO_STEPS += ["train_dataloader.batch_size=4", "param_scheduler.0.end=1", "param_scheduler.1.begin=1"]
REPOSITORY = "https://example.org/owner/maskfeat_plugin"

# Commands one after the other in one process, which imports torch once; from the second on, the data exist
COMMANDS = """
import json, os, sys
import maskfeat_cli, maskfeat_plugin
from maskfeat_plugin.apis.model_loading import find_model, list_models
commands, data, name = sys.argv[1:]
print(maskfeat_plugin.__file__, find_model(name).config, find_model(name).weights, len(list_models()), sep="\\n")
for arguments in json.loads(commands):
    print("exit status of", arguments[0], maskfeat_cli.main(arguments), flush=True)
    if not os.path.exists("data"):
        os.symlink(data, "data")
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Return a checkout as people have it, with files of Python and of an earlier build."""
    folder = copy_sources(tmp_path_factory.mktemp("package") / "source")
    for left in ("configs/demo/__pycache__/a.pyc", "tools/__pycache__/a.pyc", "build/lib/maskfeat_plugin/removed.py"):
        (folder / left).parent.mkdir(parents=True, exist_ok=True)
        (folder / left).write_text("")
    return folder


@pytest.fixture(scope="module")
def wheels(sources, tmp_path_factory):
    """Return the wheel of the checkout, and the wheel of its source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    sdist = build(sources, "sdist", folder / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    return build(sources, "wheel", folder / "first"), build(unpacked, "wheel", folder / "second")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """Return an empty folder, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(installed_wheel, empty):
    """Return a function that runs Python in the empty folder with the packages of the wheel."""

    def run_python(*arguments):
        command = [sys.executable, "-W", "ignore", *map(str, arguments)]
        env = dict(os.environ, PYTHONPATH=str(installed_wheel), OMP_NUM_THREADS="1")
        return subprocess.run(command, capture_output=True, text=True, cwd=empty, env=env)

    return run_python


@pytest.fixture
def mim_folder(installed_wheel):
    return installed_wheel / "maskfeat_plugin" / ".mim"


@pytest.fixture
def maskfeat(installed_wheel, run):
    """Return a function that runs the installed command."""
    return lambda *arguments: run(installed_wheel / "bin" / "maskfeat", *arguments)


def files_below(root, *names):
    paths = [path for name in names for path in (root / name).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix() for path in paths if not {"__pycache__", ".mim"} & set(path.parts)}


def content_of(wheel):
    """Return the files of a wheel with their permissions."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.external_attr >> 16 & 0o777 for info in archive.infolist()}


def metadata_of(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def links_of(description):
    """Return the targets of the links and pictures of a page, except in code."""
    text = re.sub(r"^```.*?^```", "", description, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_wheels_of_checkout_and_sdist_have_every_file(wheels):
    first, second = map(content_of, wheels)
    assert first == second
    tools = files_below(ROOT, "tools")
    of_a_checkout = {name for name in tools if re.search(r"\bprojects\b", (ROOT / name).read_text())}
    of_a_checkout |= {name for name in tools if name.startswith(("tools/docs/", "tools/setup/"))}
    assert "tools/demo.py" in of_a_checkout and "tools/train.py" not in of_a_checkout
    mim = files_below(ROOT, "configs") | (tools - of_a_checkout) | {"model-index.yml"}
    assert len([name for name in mim if name.endswith(".pth")]) == 2
    assert len([name for name in mim if name.startswith("configs/demo/examples/")]) == 5  # examples of the web demo
    expected = files_below(ROOT, "maskfeat_plugin", "maskfeat_cli") | {f"maskfeat_plugin/.mim/{name}" for name in mim}
    assert {name for name in first if ".dist-info/" not in name} == expected
    assert any(".dist-info/" in name and name.endswith("/LICENSE") for name in first)
    launchers = [mode for name, mode in first.items() if name.endswith(".sh")]
    assert launchers and all(mode & 0o111 == 0o111 for mode in launchers)


def test_metadata_have_no_link_that_leads_nowhere(wheels):
    metadata = metadata_of(wheels[1])
    assert metadata["Author"] == "The contributors of maskfeat_plugin"
    description = metadata.get_payload()
    assert all(link.startswith("https://") for link in links_of(description)) and "relative:" not in description
    # the code of the README is unchanged
    assert 'dict(type="maskfeat.Pretrained", checkpoint="in1k_VIT_B_MaskFeat_PT_epoch_01600.pyth")' in description


def test_metadata_lead_into_the_repository(sources, tmp_path):
    source = shutil.copytree(sources, tmp_path / "source", ignore=shutil.ignore_patterns("build"))
    citation = source / "CITATION.cff"
    lines = [line for line in citation.read_text().splitlines() if not line.startswith("repository-code:")]
    citation.write_text("\n".join([*lines, f"repository-code: {REPOSITORY}", ""]))
    metadata = metadata_of(build(source, "wheel", tmp_path / "dist"))
    links = links_of(metadata.get_payload())
    relative = links_of((ROOT / "README.md").read_text())
    assert len(links) == len(relative) > 20
    for link, written in zip(links, relative, strict=True):
        kind = "raw" if written.endswith(".png") else "blob"
        assert link == (written if written.startswith("https://") else f"{REPOSITORY}/{kind}/HEAD/{written}")
    pages = dict(text.split(", ") for text in metadata.get_all("Project-URL"))
    assert metadata["Home-page"] == pages["Source"] == REPOSITORY
    assert {name for name in pages} == {"Paper", "Source", "Documentation", "Changelog", "Issues"}
    for page in pages.values():
        path = page.removeprefix(f"{REPOSITORY}/blob/HEAD/")
        assert path == page or (ROOT / path).is_file()


def test_commands_work_from_an_empty_folder(digits, run, mim_folder, empty):
    frame = sorted((digits / "data" / "moving_digits" / "frames" / "test").glob("*.png"))[0]
    demo = mim_folder / "configs" / "demo"
    weights = demo / "weights" / f"{IMAGE}.pth"
    commands = [
        ["train", IMAGE],
        ["train", CLASSES, "--cfg-options", *TWO_STEPS],
        ["test", CLASSES, f"work_dirs/{CLASSES}/iter_2.pth", "--work-dir", "tested"],
        ["visualize", IMAGE, weights, frame, "--out", "pictures"],
        ["extract", IMAGE, weights, frame, "--out", "features.npz"],
        ["knn", CLASSES, weights, "--k", "1", "--out", "knn.json"],
        ["export", CLASSES, f"work_dirs/{CLASSES}/iter_2.pth", "model.onnx"],
        ["convert", weights, "converted.pth", "--to", "mmpretrain"],
        ["report", f"work_dirs/{CLASSES}"],
        ["estimate", IMAGE],
        ["index", frame.parent, "--out", "frames.parquet"],
        ["deduplicate", "frames.parquet", "--out", "fewer.parquet"],
        ["shrink", digits / "data" / "moving_digits" / "videos" / "test", "small", "--short-side", "32"],
        ["train", "maskfeat_vit-tiny_moving-digit"],
    ]
    done = run("-c", COMMANDS, json.dumps(commands, default=str), digits / "data", IMAGE)
    assert done.returncode == 0, done.stderr[-3000:]
    known = [path for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts]
    known = [path for path in known if "Old name" not in path.read_text()]
    expected = [f"{mim_folder.parent}/__init__.py", f"{demo / IMAGE}.py", str(weights), str(len(known))]
    assert done.stdout.splitlines()[:4] == expected
    statuses = re.findall(r"^exit status of (\w+) (\d)$", done.stdout, re.MULTILINE)
    failing = [commands[0], commands[-1]]
    assert statuses == [(words[0], str(int(words in failing))) for words in commands], done.stderr[-3000:]
    [no_data, no_config] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "data_root='data/moving_digits/' is not there; make it" in no_data
    assert f"python {mim_folder}/tools/data/moving_digits.py --help" in no_data
    assert f"did you mean {IMAGE}" in no_config and f"{mim_folder}/configs" in no_config
    [metrics] = (empty / "tested").glob("*/*.json")
    assert "accuracy/top1" in json.loads(metrics.read_text())
    for file in (
        "features.npz",
        "knn.json",
        "model.onnx",
        "converted.pth",
        f"work_dirs/{CLASSES}/report.html",
        "fewer.parquet",
    ):
        assert (empty / file).stat().st_size
    assert list((empty / "pictures").iterdir())
    assert f"| {IMAGE} |" in done.stdout


@pytest.mark.long
def test_mim_trains_and_tests_from_an_empty_folder(digits, run, mim_folder, empty):
    """mim does so with mmpretrain, and with this package, where it finds the config by its file name."""
    (empty / "data").symlink_to(digits / "data")
    config = mim_folder / "configs" / "demo" / f"{CLASSES}.py"
    options = ["--work-dir", "out", "--cfg-options", *TWO_STEPS]
    done = run("-m", "mim", "train", "mmpretrain", config, *options)
    assert done.returncode == 0 and "Training finished successfully" in done.stdout, done.stderr[-3000:]
    options = ["--checkpoint", "out/iter_2.pth", "--work-dir", "tested"]
    done = run("-m", "mim", "test", "maskfeat_plugin", config.name, *options)
    assert done.returncode == 0 and "Testing finished successfully" in done.stdout, done.stderr[-3000:]
    assert f"{mim_folder}/tools/test.py {config} " in done.stdout


def test_the_doctor_finds_no_fault(maskfeat, installed_wheel):
    done = maskfeat("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    [plugin] = [finding for finding in json.loads(done.stdout) if finding["check"] == "maskfeat_plugin"]
    assert plugin["status"] == "ok" and plugin["text"].endswith(f"from {installed_wheel}/maskfeat_plugin")


def test_the_web_demo_serves_the_shipped_models(installed_wheel, empty):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "-W", "ignore", str(installed_wheel / "bin" / "maskfeat"), "web"]
    env = dict(os.environ, PYTHONPATH=str(installed_wheel), OMP_NUM_THREADS="1", GRADIO_TEMP_DIR=str(empty / "gradio"))
    command += ["--port", str(port), "--device", "cpu"]
    # a shell starts background jobs, which these tests may be, with SIGINT ignored
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with open(empty / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=empty, preexec_fn=listen)
    try:
        deadline = time.monotonic() + 180
        while f"is at http://127.0.0.1:{port}/" not in (empty / "log").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (empty / "log").read_text()
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("name", ["bench", "demo"])
def test_what_belongs_to_a_checkout_says_so(maskfeat, name):
    done = maskfeat(name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: maskfeat {name}: this is a make target") and done.stderr.count("\n") == 1

"""The commands of docs/scaling.md run: completely where a CPU is enough, otherwise up to the launcher."""

import functools
import http.server
import os
import re
import shlex
import subprocess
import threading
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, DefaultScope
from pages import ROOT, missing_links, python_blocks, read_page, run_block

import maskfeat_plugin  # noqa: F401
from maskfeat_cli.named_configs import named_configs

TEXT = read_page("scaling.md")
LINES = [
    line
    for block in re.findall(r"^```bash\n(.+?)^```", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line and not line.startswith("#")
]
ON_CPU = [line for line in LINES if "dist_train.sh" in line and "tiny" in line]


def split(line):
    """Return the environment and the words of a line."""
    words = shlex.split(line)
    count = next(i for i, word in enumerate(words) if not re.fullmatch(r"[A-Z_]+=\S*", word))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


@pytest.mark.parametrize("line", LINES)
def test_line_names_what_there_is_and_reaches_the_tool(line, tmp_path):
    environment, words = split(line)
    paths = [word for word in words if word.startswith(("configs/", "tools/"))]
    assert paths and all((ROOT / path).is_file() for path in paths)
    for name in ("python", "srun"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHON": str(tmp_path / "python"), **environment}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = next(path for path in paths if path.startswith("configs/"))
    assert config in done.stdout and re.search(r"tools/\w+\.py", done.stdout)


def test_line_for_a_cpu_trains(digits, tmp_path):
    environment, words = split(ON_CPU[0])
    (tmp_path / "data").symlink_to(digits / "data")
    settings = "train_cfg.max_iters=2 param_scheduler.0.end=1 param_scheduler.1.begin=1 train_dataloader.batch_size=2"
    program = Path(os.sys.executable).parent
    done = subprocess.run(
        [str(ROOT / words[0]), str(ROOT / words[1]), words[2], "--cfg-options", *settings.split()],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{program}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (saved,) = tmp_path.glob("work_dirs/*/iter_2.pth")
    assert len(torch.load(saved, weights_only=True)["state_dict"]) > 40


def test_shards_of_the_page_are_those_of_the_configs():
    shown = run_block(python_blocks(TEXT)["Shards"])
    for path in (ROOT / "configs" / "scaling").glob("maskfeat-fsdp_*-large-*.py"):
        cfg = Config.fromfile(path)
        assert cfg.runner_type == shown["runner_type"]
        assert cfg.strategy.type == shown["strategy"]["type"]
        assert cfg.strategy.activation_checkpointing == shown["strategy"]["activation_checkpointing"]
        for name, value in shown["strategy"]["model_wrapper"].items():
            assert cfg.strategy.model_wrapper[name] == value
        assert cfg.optim_wrapper.type == shown["optim_wrapper"]["type"]
        assert cfg.default_hooks.checkpoint.filename_tmpl == "epoch_{}.sharded"


def test_clips_by_http_are_those_on_disk(digits, monkeypatch):
    monkeypatch.chdir(digits)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(digits / "data/moving_digits"))
    handler.func.log_message = lambda *args: None
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        shown = run_block(python_blocks((ROOT / "docs/storage.md").read_text())["Other servers"])
        dataset = dict(shown["dataset"])
        port = server.server_address[1]
        dataset["data_prefix"] = dict(video=dataset["data_prefix"]["video"].replace("8000", str(port)))
        with DefaultScope.overwrite_default_scope("mmaction"):
            remote = DATASETS.build(dataset)[0]
            local = DATASETS.build(
                dict(dataset, data_prefix=dict(video="data/moving_digits/videos/train"), pipeline=[])
            )
            plain = [dict(shown["train_pipeline"][0], io_backend="disk"), *shown["train_pipeline"][1:]]
            expected = Compose(plain)(local.get_data_info(0))
    finally:
        server.shutdown()
        server.server_close()
    assert len(remote["imgs"]) == 8
    assert all((a == b).all() for a, b in zip(remote["imgs"], expected["imgs"], strict=True))


def test_links_and_tables():
    assert not missing_links(TEXT)
    assert "TABLE" not in TEXT and "MEASURED" not in TEXT
    rows = re.findall(r"^\| (\S+) \| (?:data parallel|FSDP)", TEXT, re.MULTILINE)
    names = set(named_configs())
    assert len(rows) >= 8 and set(rows) <= names

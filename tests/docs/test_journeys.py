"""Tests of whole pages: the commands are run in an empty folder, in a fresh environment with the wheel."""

import contextlib
import json
import re
import shutil
import sqlite3

import av
import numpy as np
import pytest
from compared import FOLDER as COMPARED
from doc_blocks import ROOT, code_blocks, commands, file_name, missing_line, run_shell
from own_data import write_ava, write_boxes, write_clips, write_images, write_photos, write_videos

PRETRAINING, CLASSES = "maskfeat_vit-tiny_moving-digits", "vit-tiny_moving-digits-class"
TWO_STEPS = "train_cfg.max_iters=2 train_dataloader.batch_size=4 default_hooks.logger.interval=1"
TWO_STEPS += " param_scheduler.0.end=1 param_scheduler.1.begin=1"

WRITE = """
import shutil
from safetensors.torch import save_file
from torchvision.models.video import mvit_v2_s
from maskfeat_plugin.apis.model_loading import find_model

shutil.copy(find_model("maskfeat_vit-tiny_moving-digits").weights, "shipped.pth")
save_file(mvit_v2_s().state_dict(), "torchvision.safetensors")
"""
# The first argument is a folder with timm and transformers, the others are the libraries to compare with
COMPARE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from maskfeat_plugin.apis import from_pretrained

torch.set_grad_enabled(False)
sys.path.append(sys.argv[1])
images = torch.rand(2, 3, 40, 40)
sources = "maskfeat_vit-tiny_moving-digits", "ours.safetensors"
shipped, ours = (from_pretrained(source, backbone=dict(out_type="raw")) for source in sources)
assert all(map(torch.equal, shipped.state_dict().values(), ours.state_dict().values()))
features = ours.backbone(images)[0]
for name in sys.argv[2:]:
    if name == "torchvision":
        before, after = map(load_file, ("torchvision.safetensors", "torchvision/model.safetensors"))
        assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
        continue
    lines = Path(name, "model.md").read_text().partition("```python\\n")[2].partition("```")[0]
    scope = {}
    exec(lines.replace("FOLDER", name).replace('"model.safetensors"', f'"{name}/model.safetensors"'), scope)
    model = scope["model"].eval().float()  # the shipped weights are float16
    theirs = model.forward_features(images) if name == "timm" else model(images).last_hidden_state
    torch.testing.assert_close(theirs, features, rtol=1e-5, atol=1e-5)
print("equal:", *sys.argv[2:])
"""


def run_page(page, folder, programs):
    """Write the files of a page, run its commands, and compare their output; returns the commands."""
    output, run = "", []
    for block in code_blocks(page):
        if block.language == "python":
            (folder / file_name(block)).write_text(block.text)
        elif block.language == "shell":
            run += commands(block)
            output = run_shell(block.text, folder, programs)
        else:
            missing = missing_line(block.text, output)
            assert missing is None, f"line {block.line}: {missing!r} is not printed:\n{output[-4000:]}"
    return run


def test_from_a_folder_to_a_model(environment, tmp_path):
    rng = np.random.default_rng(0)
    write_images(tmp_path / "my_images", rng)
    write_videos(tmp_path / "my_videos", rng)
    write_photos(tmp_path / "my_photos", rng)
    # as users start them, without warm programs
    run = run_page(ROOT / "docs" / "first_model.md", tmp_path, environment / "bin")
    assert [line.split()[1] for line in run] == ["pretrain", "knn", "finetune", "predict", "pretrain", "train"]
    table = (tmp_path / "predictions.csv").read_text().splitlines()
    assert table[0] == "file,class_1,score_1,class_2,score_2" and len(table) == 9
    assert {re.split(",", row)[1] for row in table[1:]} <= {"china", "flower"}
    assert list((tmp_path / "work_dirs" / "my_images_pretrain").glob("*/vis_data/vis_image/*.png"))
    assert (tmp_path / "work_dirs" / "changed" / "iter_2.pth").is_file()


@pytest.mark.long
def test_one_encoder(programs, tmp_path):
    rng = np.random.default_rng(0)
    write_images(tmp_path / "my_images", rng)
    write_videos(tmp_path / "my_videos", rng, 1)  # pictures are drawn of each, in seconds
    write_photos(tmp_path / "my_photos", rng)
    write_clips(tmp_path / "my_clips", rng)
    write_boxes(tmp_path / "my_boxes", rng, 2)
    write_ava(tmp_path / "my_ava", rng)
    run = run_page(ROOT / "docs" / "tutorials" / "one_encoder.md", tmp_path, programs)
    tools = [line.split()[1] for line in run if line.startswith("maskfeat")]
    assert tools == ["pretrain"] * 2 + ["knn"] * 2 + ["finetune"] * 2 + ["train"] * 4 + ["visualize"]
    for name in ("vit_detector", "mvit_detector", "vit_actions", "mvit_actions"):
        [log] = (tmp_path / "work_dirs" / name).glob("*/vis_data/scalars.json")
        rows = list(map(json.loads, log.read_text().splitlines()))
        assert rows and all(np.isfinite(row[key]) for row in rows for key in row if "loss" in key), rows
    with av.open(str(tmp_path / "out" / "0_actions.mp4")) as video:
        assert len(list(video.decode(video=0))) == 30


def test_configs_by_name(programs, digits, tmp_path):
    (tmp_path / "data").symlink_to(digits / "data")
    listed = run_shell("maskfeat configs demo", tmp_path, programs)
    assert f"  {PRETRAINING}\n" in listed and f"  {CLASSES}\n" in listed
    assert run_shell(f"maskfeat configs --copy {CLASSES} --out copy.py", tmp_path, programs) == "copy.py\n"
    (tmp_path / "mine.py").write_text(f'_base_ = "maskfeat_plugin::demo/{CLASSES}.py"\ntrain_cfg = dict(max_iters=2)\n')
    for config in (PRETRAINING, "mine.py", "copy.py"):
        output = run_shell(f"maskfeat train {config} --work-dir out --cfg-options {TWO_STEPS}", tmp_path, programs)
        assert "Iter(train) [2/2]" in output


def test_mim_lists_and_searches(programs, tmp_path):
    listed = run_shell("mim list", tmp_path, programs)
    assert re.search(r"^maskfeat[-_]plugin +\d", listed, re.MULTILINE), listed
    found = run_shell('mim search maskfeat_plugin --dataset "ava v2.2"', tmp_path, programs)
    assert "config id: mvit-small-16x4_k400-pre_8xb16-amp-coslr-30e_ava22" in found


def test_notebook(programs, tmp_path):
    notebook = ROOT / "docs" / "inference.ipynb"
    shutil.copy(notebook.with_name("digit.png"), tmp_path)
    cells = [
        "".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"
    ]
    cells.append("assert results._repr_html_().count('data:image/png;base64,') == 1")
    (tmp_path / "notebook.py").write_text("\n".join(cells))
    assert "(1, 5, 5) (15, 108)" in run_shell("python notebook.py", tmp_path, programs)


def test_exchange_with_other_libraries(programs, tmp_path):
    (tmp_path / "write.py").write_text(WRITE)
    (tmp_path / "compare.py").write_text(COMPARE)
    libraries = [name for name in ("timm", "hf") if (COMPARED / dict(hf="transformers").get(name, name)).is_dir()]
    lines = ["python write.py", "mkdir timm hf torchvision"]
    lines.append(f"maskfeat convert shipped.pth ours.safetensors --to maskfeat --config {PRETRAINING}")
    for name in libraries:
        lines.append(f"maskfeat convert ours.safetensors {name}/model.safetensors --to {name} --config {PRETRAINING}")
    lines.append("maskfeat convert torchvision.safetensors mvit.pth --to maskfeat")
    lines.append("maskfeat convert mvit.pth torchvision/model.safetensors --to torchvision")
    lines.append(f"python compare.py {COMPARED} {' '.join(libraries)} torchvision")
    output = run_shell("\n".join(lines), tmp_path, programs)
    assert output.splitlines()[-1] == f"equal: {' '.join(libraries)} torchvision"


@pytest.mark.parametrize("backend", ["WandbVisBackend", "MLflowVisBackend"])
def test_tracking(backend, programs, digits, tmp_path, monkeypatch):
    for name, value in dict(
        MODE="offline", CONSOLE="off", CACHE_DIR="wandb", CONFIG_DIR="wandb", DATA_DIR="wandb"
    ).items():
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / value) if name.endswith("DIR") else value)
    (tmp_path / "data").symlink_to(digits / "data")
    page = code_blocks(ROOT / "docs" / "logs.md")
    [lines] = [block.text for block in page if block.language == "python" and backend in block.text]
    (tmp_path / "tracked.py").write_text(f'_base_ = "maskfeat_plugin::demo/{PRETRAINING}.py"\n{lines}')
    run_shell(f"maskfeat train tracked.py --cfg-options {TWO_STEPS}", tmp_path, programs)
    if backend == "WandbVisBackend":
        assert len(list(tmp_path.glob("work_dirs/tracked/*/vis_data/wandb/offline-run-*/*.wandb"))) == 1
    else:
        with contextlib.closing(sqlite3.connect(tmp_path / "work_dirs" / "mlflow.db")) as database:
            rows = database.execute("select step from metrics where key = 'loss'").fetchall()
        assert sorted(step for (step,) in rows) == [1, 2]

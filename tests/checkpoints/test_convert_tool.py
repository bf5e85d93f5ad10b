"""The command line of the converter."""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from full_disk import REASON, full_disk
from small_models import build, pretraining_state
from tool_modules import load_tool
from warm_python import python

from maskfeat_plugin.checkpoints import convert, format_rows, from_state_dict, unfinished_path

ROOT = Path(__file__).parents[2]


SCRIPT = ROOT / "tools" / "convert_checkpoint.py"


@pytest.fixture
def tool(capsys):
    """Runs the tool in this process: exit status, output and errors."""
    module = load_tool("convert_checkpoint")

    def run(*arguments):
        status = module.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def authors_file(save):
    state = pretraining_state("vit")
    return save({"model_state": convert(from_state_dict(state), "slowfast").state}, "authors.pyth")


@pytest.mark.slow
def test_command_line(authors_file, tmp_path):
    target = tmp_path / "plain.pth"
    done = subprocess.run(
        [python(), str(SCRIPT), str(authors_file), str(target), "--to", "mmpretrain"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"written to {target}" in done.stdout
    backbone = build("mmpretrain.VisionTransformer")
    backbone.load_state_dict(torch.load(target, weights_only=True)["state_dict"], strict=True)
    assert torch.equal(backbone.ln1.weight.data, pretraining_state("vit")["backbone.ln1.weight"])


def test_dry_run(tool, authors_file, tmp_path):
    status, output, _ = tool(authors_file, tmp_path / "plain.pth", "--to", "mmpretrain", "--dry-run")
    assert status == 0
    assert "PySlowFast MaskFeat pre-training, ViT" in output and "dry run" in output
    lines = [line.split() for line in output.splitlines()]
    assert ["blocks.{0-2}.mlp.fc1.weight", "layers.{0-2}.ffn.layers.0.0.weight", "(32,", "16)"] in lines
    assert ["hogs.0.weight_x", "-", "constant", "of", "the", "HOG", "target"] in lines
    assert [path.name for path in tmp_path.iterdir()] == ["authors.pyth"]


def test_full_disk_is_one_line(tool, authors_file, tmp_path):
    target = tmp_path / "plain.pth"
    with full_disk():
        status, output, errors = tool(authors_file, target, "--to", "maskfeat")
    assert status == 1 and output == ""
    assert errors == f"error: {target} cannot be written: {REASON}. Make room there, or name another place.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["authors.pyth"]


def test_left_over_of_a_killed_conversion_is_removed(tool, authors_file, tmp_path):
    for name in ("plain.pth", "other.pth"):
        unfinished_path(tmp_path / name).write_bytes(b"half")
    assert tool(authors_file, tmp_path / "plain.pth", "--to", "maskfeat")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"authors.pyth", "plain.pth"}


def test_errors_leave_what_there_is(tool, authors_file, tmp_path):
    target = tmp_path / "plain.pth"
    target.write_text("precious")
    missing = tmp_path / "none" / "plain.pth"
    for source, where, to, message in (
        (authors_file, target, "mmaction2", "convert it to 'mmpretrain'"),
        (authors_file, missing, "maskfeat", f"The folder {missing.parent} of the output does not exist"),
        (authors_file, authors_file, "maskfeat", "is the source itself"),
        (tmp_path / "none.pth", target, "maskfeat", "does not exist"),
        (target, target, "maskfeat", "is not a checkpoint"),
    ):
        status, output, errors = tool(source, where, "--to", to)
        assert status == 1 and output == ""
        assert errors.startswith("error: ") and message in errors
    assert target.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["authors.pyth", "plain.pth"]
    with pytest.raises(SystemExit) as end:
        tool("--help")
    assert end.value.code == 0


def test_table_of_fused_layers():
    """A tensor that was made of several names them all."""
    state = pretraining_state("mvit")
    for part, third in zip("qkv", state.pop("backbone.blocks.0.attn.qkv.weight").chunk(3), strict=True):
        state[f"backbone.blocks.0.attn.{part}.weight"] = third
    table = format_rows(convert(from_state_dict(state), "slowfast").rows)
    fused = " + ".join(f"backbone.blocks.0.attn.{part}.weight" for part in "qkv")
    assert any(line.startswith(fused) and " blocks.0.attn.qkv.weight " in line for line in table.splitlines())
    assert "hogs.0.weight_x" in table

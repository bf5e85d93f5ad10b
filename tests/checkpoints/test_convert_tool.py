"""The command line of the checkpoint converter."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch
from full_disk import REASON, full_disk
from small_models import build, pretraining_state
from tool_modules import load_tool
from warm_python import python

from maskfeat_plugin.apis import from_pretrained, load_config
from maskfeat_plugin.checkpoints import convert, format_rows, from_state_dict, unfinished_path
from maskfeat_plugin.files import sha256

ROOT = Path(__file__).parents[2]


SCRIPT = ROOT / "tools" / "convert_checkpoint.py"


@pytest.fixture
def tool(capsys):
    """Return a function that runs the tool in this process and returns exit status, output and errors."""
    module = load_tool("convert_checkpoint")

    def run(*arguments):
        status = module.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def authors_file(save):
    state = pretraining_state("vit")
    return save({"model_state": convert(from_state_dict(state), "slowfast").state}, "authors.pyth")


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
    assert {path.name for path in tmp_path.iterdir()} == {"authors.pyth", "plain.pth", "plain.md"}


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


def test_model_card(tool, authors_file, tmp_path):
    """The card lists the known facts in 40 lines. It replaces an old card, but no file of the user."""
    target, card = tmp_path / "plain.pth", tmp_path / "plain.md"
    card.write_text("my notes")
    status, _, errors = tool(authors_file, target, "--to", "maskfeat")
    assert status == 1 and errors.startswith(f"error: {card} exists and was not written by maskfeat convert.")
    assert card.read_text() == "my notes" and not target.exists()
    card.unlink()
    for to in ("maskfeat", "mmpretrain", "slowfast"):
        assert tool(authors_file, target, "--to", to)[0] == 0
        text = card.read_text()
        assert len(text.splitlines()) <= 40
        assert text.startswith("---\nlicense: unknown\n") and sha256([authors_file]) in text
        assert "`authors.pyth`, PySlowFast MaskFeat pre-training, ViT" in text and "Mask ratio" not in text
        assert target.name in text.partition("## Load it")[2]


def test_config_of_the_model(tool, tmp_path):
    """The config stands beside the weights, and gives model card and libraries the facts that weights lack."""
    name = "maskfeat_vit-tiny_moving-digits"
    shipped = ROOT / "configs" / "demo" / "weights" / f"{name}.pth"
    target = tmp_path / "digits.safetensors"
    assert tool(shipped, target, "--to", "maskfeat", "--config", name)[0] == 0
    ours, same = from_pretrained(target).state_dict(), from_pretrained(name).state_dict()
    assert ours.keys() == same.keys() and all(torch.equal(ours[key], same[key]) for key in same)
    card = (tmp_path / "digits.md").read_text()
    assert len(card.splitlines()) <= 40
    for line in (f"| Config | `{name}` |", "| Mask ratio | 0.4 |", "| Input | mean 114.75, std 57.375, RGB |"):
        assert line in card
    assert 'from_pretrained("digits.safetensors")' in card
    hf = tmp_path / "model.safetensors"
    assert "--config CONFIG" in tool(shipped, hf, "--to", "hf")[2]
    assert tool(shipped, hf, "--to", "hf", "--config", name)[0] == 0
    heads = load_config(name).model.backbone.arch.num_heads
    assert json.loads((tmp_path / "config.json").read_text())["num_attention_heads"] == heads
    wrong = tool(
        shipped, tmp_path / "other.pth", "--to", "timm", "--config", "maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k"
    )
    assert wrong[0] == 1 and "Give the config of this model" in wrong[2]


def test_table_of_fused_layers():
    """The row of a tensor that was made from several tensors names them all."""
    state = pretraining_state("mvit")
    for part, third in zip("qkv", state.pop("backbone.blocks.0.attn.qkv.weight").chunk(3), strict=True):
        state[f"backbone.blocks.0.attn.{part}.weight"] = third
    table = format_rows(convert(from_state_dict(state), "slowfast").rows)
    fused = " + ".join(f"backbone.blocks.0.attn.{part}.weight" for part in "qkv")
    assert any(line.startswith(fused) and " blocks.0.attn.qkv.weight " in line for line in table.splitlines())
    assert "hogs.0.weight_x" in table

"""Safetensors files: read wherever files of torch.save are, written by the converter, refused if damaged."""

import random

import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from safetensors.torch import load_file as load_tensors
from safetensors.torch import save_file
from small_models import build, pretraining_state

from maskfeat_plugin.apis import get_model
from maskfeat_plugin.apis.model_loading import load_backbone
from maskfeat_plugin.checkpoints import CheckpointError, check_whole, from_state_dict, read_checkpoint, write_checkpoint
from maskfeat_plugin.config.load import find_config, load_config
from maskfeat_plugin.errors import ConfigError

IMAGE = "maskfeat_vit-tiny_moving-digits"
WEIGHTS = find_config(IMAGE).parent / "weights" / f"{IMAGE}.pth"


@pytest.fixture
def path(tmp_path):
    """Write a small model's weights with this package."""
    write_checkpoint(from_state_dict(pretraining_state("vit")), tmp_path / "small.safetensors", "maskfeat")
    return tmp_path / "small.safetensors"


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in b)


def test_written_and_read(path):
    state = pretraining_state("vit")
    assert equal(load_tensors(path), state)
    checkpoint = read_checkpoint(path)
    assert equal(checkpoint.state, state)
    assert checkpoint.meta["target"] == "maskfeat" and checkpoint.task == "pretrain"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype, tmp_path):
    state = {key: value.to(dtype) for key, value in pretraining_state("vit").items()}
    write_checkpoint(from_state_dict(state), tmp_path / "half.safetensors", "maskfeat")
    assert equal(read_checkpoint(tmp_path / "half.safetensors").state, state)


def test_files_of_other_projects(tmp_path):
    """They have no metadata of this package, or none at all; both ways of mmengine read them too."""
    state = {key.removeprefix("backbone."): value for key, value in pretraining_state("vit").items()}
    backbone = {key: value for key, value in state.items() if not key.startswith("neck.")}
    for metadata in (None, {"format": "pt"}):
        save_file(backbone, tmp_path / "theirs.safetensors", metadata)
        assert read_checkpoint(tmp_path / "theirs.safetensors").meta == {}
    for kind in ("Pretrained", "maskfeat.Pretrained"):
        model = build("maskfeat.MaskedViT", init_cfg=dict(type=kind, checkpoint=str(tmp_path / "theirs.safetensors")))
        with DefaultScope.overwrite_default_scope("mmpretrain"):
            model.init_weights()
        assert equal(model.state_dict(), backbone)
    model = build("maskfeat.MaskedViT")
    load_checkpoint(model, f"{tmp_path}/theirs.safetensors", map_location="cpu", strict=True)
    assert equal(model.state_dict(), backbone)


def test_models_take_them(tmp_path):
    write_checkpoint(read_checkpoint(WEIGHTS), tmp_path / "digits.safetensors", "maskfeat")
    for load in (lambda file: get_model(IMAGE, file), lambda file: load_backbone(load_config(IMAGE), file)):
        ours, theirs = (load(file).backbone.state_dict() for file in (tmp_path / "digits.safetensors", WEIGHTS))
        assert equal(ours, theirs)
    with pytest.raises(ConfigError, match=r"none.safetensors does not exist"):
        get_model(IMAGE, tmp_path / "none.safetensors")


def refused(path):
    try:
        check_whole(path)
        state = read_checkpoint(path).state
    except CheckpointError as error:
        assert str(path) in str(error)
        return True
    return not equal(state, pretraining_state("vit")) and pytest.fail("wrong weights were read")


@pytest.mark.parametrize("share", [0, 0.0002, 0.1, 0.9, 1])
def test_cut_off(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * (len(whole) - 1))])
    with pytest.raises(CheckpointError, match=r"small.safetensors is not a file of safetensors, or is cut off"):
        read_checkpoint(path)


def test_flipped_bits(path):
    """All flipped bits of the tensors are found; of the names and metadata, the ones that matter."""
    whole, rng = path.read_bytes(), random.Random(0)
    start = 8 + int.from_bytes(whole[:8], "little")
    for places, share in ((range(start), 0.5), (range(start, len(whole)), 1)):
        found = 0
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[rng.choice(places)] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            found += refused(path)
        assert found / 60 >= share

"""All weights of any network are loaded, from files of several projects."""

import pytest
import torch
from torch import nn

from maskfeat_plugin.checkpoints import CheckpointError, load_network, read_state


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


@pytest.mark.parametrize("key", [None, "state_dict", "model_state", "model", "teacher"])
def test_every_place_of_a_state_dict(key, tmp_path):
    state, file = network(1).state_dict(), tmp_path / "e.pth"
    wrapped = {f"module.body.{name}": value for name, value in state.items()}
    torch.save(wrapped if key is None else {key: wrapped, "epoch": 3}, file)
    assert read_state(file).keys() == wrapped.keys()
    built = network(2)
    load_network(built, file, "teacher.init_cfg", prefix="net.", revise_keys=[("^body", "net")])
    assert all(torch.equal(value, state[name]) for name, value in built.state_dict().items())


def test_a_file_that_does_not_fit_is_named(tmp_path):
    file = tmp_path / "e.pth"
    torch.save({f"net.{name}": value for name, value in network(1).state_dict().items()}, file)
    with pytest.raises(CheckpointError, match=r"^teacher.init_cfg.checkpoint=.* Set prefix='net.' beside"):
        load_network(network(2), file, "teacher.init_cfg")
    torch.save({"epoch": 3}, file)
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_network(network(2), file, "teacher.init_cfg")
    with pytest.raises(FileNotFoundError, match="^teacher.init_cfg.checkpoint: .*no.pth does not exist"):
        load_network(network(2), tmp_path / "no.pth", "teacher.init_cfg")

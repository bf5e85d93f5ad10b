"""The loss of several processes is the mean over all tokens, even if some processes have more tokens."""

import subprocess

import pytest
import torch
from warm_python import python

from maskfeat_plugin.registry import MODELS

SCRIPT = """
import sys, torch
from torch.distributed import get_rank, init_process_group
from torch.nn.parallel import DistributedDataParallel
from maskfeat_plugin.registry import MODELS

init_process_group("gloo")
torch.manual_seed(0)
layer = DistributedDataParallel(torch.nn.Linear(4, 3))
inputs, targets = torch.load(sys.argv[1], weights_only=True)
share = slice(0, 2) if get_rank() == 0 else slice(2, 9)
loss = MODELS.build(dict(type="maskfeat.MaskedLoss", kind=sys.argv[3]))(layer(inputs[share]), targets[share])
loss.backward()
losses = [torch.zeros(()) for _ in range(2)]
torch.distributed.all_gather(losses, loss.detach())
if get_rank() == 0:
    torch.save((sum(losses) / 2, layer.module.weight.grad), sys.argv[2])
"""


@pytest.mark.parametrize("kind", ["mse", "cross_entropy"])
def test_two_processes_with_two_and_seven_tokens(kind, tmp_path):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 4, generator=generator)
    targets = torch.rand(9, 3, generator=generator).softmax(-1)
    torch.save((inputs, targets), tmp_path / "data.pth")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [python(), "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [*command, tmp_path / "script.py", tmp_path / "data.pth", tmp_path / "found.pth", kind],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    loss, gradient = torch.load(tmp_path / "found.pth", weights_only=True)
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 3)
    expected = MODELS.build(dict(type="maskfeat.MaskedLoss", kind=kind))(layer(inputs), targets)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(gradient, layer.weight.grad)

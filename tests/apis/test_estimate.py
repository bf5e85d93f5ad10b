"""Tests of tools/estimate.py against numbers calculated by hand and against measured training steps."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from maskfeat_plugin.apis.estimate import measure_peaks, model_costs, plan_training
from maskfeat_plugin.engine.process_info import MEGABYTE

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
TINY = CONFIGS / "demo" / "maskfeat_vit-tiny_moving-digits.py"
CLASSIFIER = CONFIGS / "classification" / "vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py"


@pytest.fixture(scope="module")
def tiny():
    """Return the config and the costs of the demo's ViT."""
    cfg = Config.fromfile(TINY)
    return cfg, model_costs(cfg)


@pytest.fixture(scope="module")
def classifier():
    """Return the config and the costs of ViT-B with its classifier."""
    cfg = Config.fromfile(CLASSIFIER)
    return cfg, model_costs(cfg)


@pytest.fixture
def tool():
    """Return ``main`` of the tool."""
    return runpy.run_path(str(ROOT / "tools" / "estimate.py"))["main"]


def test_parameters_by_hand(tiny):
    width, masked, tokens = 96, 384, 25
    layer = 4 * width * width + 4 * width + 2 * width * masked + masked + width + 4 * width
    embedding = 3 * 8 * 8 * width + width + (tokens + 1) * width + 2 * width  # patches, positions, class and mask token
    total = embedding + 4 * layer + 2 * width + width * 108 + 108  # last norm, prediction
    assert tiny[1].trained + tiny[1].frozen == total
    assert tiny[1].largest_unit == layer


def test_flops_of_vit_base_by_its_formula(classifier):
    tokens, width, layers = 197, 768, 12
    linear = 2 * tokens * width * (3 * width + width + 4 * width + 4 * width)
    attention = 2 * 2 * tokens * tokens * width
    forward = 2 * 196 * 768 * width + layers * (linear + attention) + 2 * width * 1000
    costs = classifier[1]
    assert costs.forward_flops == pytest.approx(forward, rel=0.02)
    assert costs.step_flops == pytest.approx(3 * forward, rel=0.03)
    assert 86_000_000 < costs.trained < 87_000_000 and costs.mixed and not costs.recomputes


SCRIPT = """
import ctypes, sys
import torch
from mmengine.config import Config
import maskfeat_plugin
from mmpretrain.structures import DataSample
from maskfeat_plugin.config.training_inputs import mask_generator
from maskfeat_plugin.engine.process_info import peak_memory
from projects.benchmark.steps import training_step
from maskfeat_plugin.registry import TRANSFORMS

# blocks of 64 kB and more go back at once, so that the process has what the step has
ctypes.CDLL(None).mallopt(-3, 1 << 16)
cfg = Config.fromfile(sys.argv[1])
draw = TRANSFORMS.build(mask_generator(cfg))
random = torch.Generator().manual_seed(0)
inputs = [torch.randint(256, (3, 40, 40), generator=random, dtype=torch.uint8) for _ in range(256)]
samples = [DataSample(mask=draw({"sample_idx": i})["mask"]) for i in range(256)]
with torch.backends.mkldnn.flags(enabled=False):
    step = training_step(cfg, inputs, samples, torch.device("cpu"))
    step()
    print(peak_memory(step, torch.device("cpu")))
"""


def test_activations_are_those_of_a_step(tiny):
    """Compare with the memory of a new process in a step of 256 images, with torch's kernels, not those from oneDNN.

    torch's own CPU kernels are similar to its GPU kernels.
    """
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(TINY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    measured = float(done.stdout.splitlines()[-1])
    assert tiny[1].activations * 256 / MEGABYTE == pytest.approx(measured, rel=0.15)


def test_recomputation_trades_memory_for_a_forward_pass(tiny):
    cfg = Config.fromfile(CONFIGS / "scaling" / "maskfeat-fsdp_vit-tiny_moving-digits.py")
    again = model_costs(cfg)
    assert again.recomputes and again.activations < 0.7 * tiny[1].activations
    assert again.step_flops == pytest.approx(tiny[1].step_flops + tiny[1].forward_flops, rel=0.05)


def test_mixed_precision_halves_most_of_the_activations(tiny):
    assert 0.4 < model_costs(tiny[0], mixed=True).activations / tiny[1].activations < 0.9


def test_states_and_days_by_hand(classifier):
    cfg, costs = classifier
    plan = plan_training(cfg, costs, tflops=100, memory=80)
    assert (plan.gpus, plan.batch, plan.way) == (8, 256, "data parallel")
    assert plan.states == 20 * costs.trained + 4 * costs.frozen
    assert plan.days == pytest.approx(1_281_167 * 100 * costs.step_flops / 8e14 / 86_400)
    assert plan_training(cfg, costs, 100, 80, gpus=16).days == pytest.approx(plan.days / 2)
    assert plan_training(cfg, costs, 100, 80, samples=1000).days == pytest.approx(plan.days * 1000 / 1_281_167)
    assert plan_training(cfg, costs, 100, 80, batch=plan.largest_batch).memory <= 80 * 2**30
    assert plan_training(cfg, costs, 100, 80, batch=plan.largest_batch + 1).memory > 80 * 2**30
    cfg = cfg.copy()
    cfg.strategy = dict(type="maskfeat.FSDPStrategy")
    assert plan_training(cfg, costs, 100, 80, gpus=8).states == (16 * costs.trained + 4 * costs.frozen) / 8


def test_tool(tool, capsys):
    assert tool([str(TINY), "--gpus", "2", "--tflops", "1"]) == 0
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert row[0] == "| maskfeat_vit-tiny_moving-digits" and row[2] == "0.5" and row[6] == "2 x 128"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "nowhere.py does not exist"),
        ([str(next(CONFIGS.glob("detection/faster-rcnn_vit-base*.py")))], "not for FasterRCNN"),
        ([str(TINY), "--measure", "sharded"], "--size H W"),
    ],
)
def test_what_cannot_be_estimated_is_one_error(tool, capsys, arguments, message):
    assert tool(arguments) == 1
    error = capsys.readouterr().err
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert message in line


@pytest.mark.long
def test_shards_take_less_memory(tmp_path):
    """Each of two processes keeps a half of the 28 million parameters, of their gradients and of the optimizer."""
    path = tmp_path / "wide.py"
    arch = dict(embed_dims=384, num_layers=16, num_heads=6, feedforward_channels=1536)
    path.write_text(f'_base_ = "{TINY}"\nmodel = dict(backbone=dict(arch={arch}), neck=dict(in_channels=384))\n')
    whole, part = (measure_peaks(path, way, 2, 1, (40, 40)) for way in ("data-parallel", "sharded"))
    assert len(whole) == len(part) == 2
    assert max(part) < 0.8 * min(whole)

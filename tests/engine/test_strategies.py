"""Data parallel and sharded training give the same results, and each can resume the checkpoints of the other."""

import json
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from train_by_strategies import train
from warm_python import python

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config
from maskfeat_plugin.checkpoints import CheckpointError, load_file, read_checkpoint
from maskfeat_plugin.registry import MODELS, STRATEGIES

CONFIGS = Path(__file__).parents[2] / "configs"
DEMO = CONFIGS / "demo" / "maskfeat_{}-tiny_moving-digits.py"
SHARDED = CONFIGS / "scaling" / "maskfeat-fsdp_{}-tiny_moving-digits.py"
CONVERT = Path(__file__).parents[2] / "tools" / "convert_checkpoint.py"
# The same masks, crops and order of the samples with any number of processes; gradients are clipped in every step
SETTINGS = """
_base_ = "BASE"
model = dict(backbone=dict(arch=dict(num_layers=2)))
train_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline))
train_cfg = dict(max_iters=2)
param_scheduler = [dict(type="LinearLR", start_factor=0.5, by_epoch=False, end=4)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, save_optimizer=True))
optim_wrapper = dict(clip_grad=dict(max_norm=0.05))
randomness = dict(seed=0, diff_rank_seed=False)
"""
SHARDS = {"default_hooks.checkpoint.filename_tmpl": "iter_{}.sharded"}
WAYS = ("single", "ddp", "full", "sharded")
PRECISION = dict(param_dtype="bfloat16", reduce_dtype="float32", cast_forward_inputs=False)
BFLOAT16 = {"optim_wrapper.type": "maskfeat.BFloat16OptimWrapper"}


def job(way, model, name, processes=2, **options):
    """Return the job of a training with 8 samples per step by one of WAYS."""
    batch = 8 if way == "single" else 8 // processes
    options = {"train_dataloader.batch_size": batch, "load_from": f"{model}.pth", **options}
    config = f"{model}_{'data-parallel' if way in ('single', 'ddp') else 'shards'}.py"
    return dict(config=config, work_dir=name, options={**options, **(SHARDS if way == "sharded" else {})})


def saved(folder, step):
    """Return the checkpoint that a training wrote."""
    (path,) = folder.glob(f"iter_{step}.*")
    return path


@pytest.fixture(scope="module")
def trainings(digits, tmp_path_factory):
    """Train by each way, resume by each other way, and return the folder of the results and the losses by name."""
    folder = tmp_path_factory.mktemp("strategies")
    (folder / "data").symlink_to(digits / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for model, scope in (("vit", "mmpretrain"), ("mvit", "mmaction")):
            Path(f"{model}_data-parallel.py").write_text(SETTINGS.replace("BASE", str(DEMO).format(model)))
            Path(f"{model}_shards.py").write_text(SETTINGS.replace("BASE", str(SHARDED).format(model)))
            torch.manual_seed(0)
            with DefaultScope.overwrite_default_scope(scope):
                built = MODELS.build(Config.fromfile(f"{model}_shards.py").model)
            built.init_weights()
            torch.save(dict(state_dict=built.state_dict()), f"{model}.pth")
        losses = {"single": train(job("single", "vit", "single"))[1]}
        jobs = [job(way, "vit", way) for way in WAYS[1:]]
        resume = {
            (way, source): job(
                way,
                "vit",
                f"{way}-from-{source}",
                **{
                    "load_from": f"{source}/iter_2.{'sharded' if source == 'sharded' else 'pth'}",
                    "resume": True,
                    "train_cfg.max_iters": 3,
                },
            )
            for way in WAYS
            for source in WAYS
        }
        jobs += [resume.pop((way, source)) for way in WAYS[1:] for source in WAYS]
        jobs += [job("ddp", "mvit", "mvit-ddp"), job("full", "mvit", "mvit-full")]
        mixed = {**BFLOAT16, "strategy.model_wrapper": dict(mixed_precision=PRECISION)}
        jobs += [job("ddp", "mvit", "mvit-ddp-bf16", **BFLOAT16), job("full", "mvit", "mvit-full-bf16", **mixed)]
        Path("jobs.json").write_text(json.dumps(jobs))
        script = Path(__file__).with_name("train_by_strategies.py")
        command = ["-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", script]
        done = subprocess.run(
            [python(), *command, "jobs.json", "losses.pth"], capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr[-5000:]
        names = [done_job["work_dir"] for done_job in jobs]
        losses.update(zip(names, torch.load("losses.pth", weights_only=True), strict=True))
        for left in resume.values():  # a single process resumes checkpoints of several processes
            losses[left["work_dir"]] = train(left)[1]
    return folder, losses


def assert_same_training(found, expected):
    """Compare weights, optimizer and schedules of two checkpoints."""
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(found["state_dict"][name], value, rtol=0, atol=2e-6, msg=name)
    states = found["optimizer"]["state"], expected["optimizer"]["state"]
    assert states[0].keys() == states[1].keys()
    for number, state in states[1].items():
        assert states[0][number]["step"] == state["step"]
        for key in ("exp_avg", "exp_avg_sq"):
            scale = state[key].abs().max().item()
            torch.testing.assert_close(states[0][number][key], state[key], rtol=0, atol=1e-4 * scale + 1e-12)
    for one, other in zip(found["optimizer"]["param_groups"], expected["optimizer"]["param_groups"], strict=True):
        assert one["params"] == other["params"] and one["weight_decay"] == other["weight_decay"]
        assert one["lr"] == pytest.approx(other["lr"])
    assert found["param_schedulers"][0]["last_step"] == expected["param_schedulers"][0]["last_step"]


def test_every_way_is_one_training(trainings, tmp_path):
    """This is one test, because its trainings are made once per process of pytest."""
    folder, losses = trainings
    for way in WAYS[1:]:
        check_training(folder, losses, way)
    for way in WAYS:
        for source in WAYS:
            check_resumption(folder, losses, way, source)
        check_conversion(folder, way, tmp_path / f"{way}.pth")
    check_groups(folder)
    check_mixed_precision(losses)
    check_folder_of_shards(folder, tmp_path)


def check_training(folder, losses, way):
    """Check that losses, weights and optimizer equal the results of a single process."""
    assert losses[way] == pytest.approx(losses["single"], rel=1e-5) and len(losses[way]) == 2
    assert losses[way][1] < losses[way][0]
    assert_same_training(load_file(saved(folder / way, 2)), load_file(saved(folder / "single", 2)))


def check_resumption(folder, losses, way, source):
    """Check the same after resuming a checkpoint of another way."""
    assert losses[f"{way}-from-{source}"] == pytest.approx(losses["single-from-single"], rel=1e-5)
    found = load_file(saved(folder / f"{way}-from-{source}", 3))
    assert found["meta"]["iter"] == 3
    assert_same_training(found, load_file(saved(folder / "single-from-single", 3)))


def check_groups(folder):
    """Check that the exemptions from weight decay are the same in shards."""
    groups = load_file(saved(folder / "sharded", 2))["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0]
    assert all(len(group["params"]) > 5 for group in groups)


def check_mixed_precision(losses):
    """Check that an MViT gets the same training as by data parallelism, also in bfloat16."""
    assert losses["mvit-full"] == pytest.approx(losses["mvit-ddp"], rel=1e-5)
    assert losses["mvit-full-bf16"] == pytest.approx(losses["mvit-ddp-bf16"], rel=5e-3)
    assert losses["mvit-full-bf16"] == pytest.approx(losses["mvit-full"], rel=2e-2)
    assert losses["mvit-full-bf16"] != losses["mvit-full"]


def check_conversion(folder, way, target):
    """Check that tools/convert_checkpoint.py reads files and folders of shards."""
    convert = runpy.run_path(str(CONVERT))["main"]
    assert convert([str(saved(folder / way, 2)), str(target), "--to", "mmpretrain"]) == 0
    found = read_checkpoint(target).state
    expected = load_file(saved(folder / "single", 2))["state_dict"]
    assert len(found) > 20
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=2e-6)


def check_folder_of_shards(folder, tmp_path):
    """Check that each process has written its part, nothing unfinished is left, and torch's own tool reads the folder.

    An incomplete folder is refused.
    """
    shards = saved(folder / "sharded", 2)
    assert not list(shards.parent.glob(".*unfinished"))
    whole = saved(folder / "full", 2).stat().st_size
    parts = sorted(shards.glob("*.distcp"))
    assert [part.name for part in parts] == ["__0_0.distcp", "__1_0.distcp"]
    assert all(0.4 * whole < part.stat().st_size < 0.7 * whole for part in parts)
    dcp_to_torch_save(shards, tmp_path / "torch.pth")
    found, expected = torch.load(tmp_path / "torch.pth", weights_only=True), load_file(shards)
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    assert all(torch.equal(found["state_dict"][name], value) for name, value in expected["state_dict"].items())
    assert len(found["optimizer"]["state"]) == len(expected["optimizer"]["state"]) > 20
    for number, state in expected["optimizer"]["state"].items():
        assert all(torch.equal(found["optimizer"]["state"][str(number)][key], value) for key, value in state.items())
    copy = shutil.copytree(shards, tmp_path / shards.name)
    (copy / "__1_0.distcp").unlink()
    with pytest.raises(CheckpointError, match=r"lacks __1_0.distcp"):
        read_checkpoint(copy)
    (copy / "__1_0.distcp").write_bytes((shards / "__1_0.distcp").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"__1_0.distcp is cut off"):
        read_checkpoint(copy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            dict(model_wrapper=dict(sharding_strategy="FULL_SHARD")),
            r"model_wrapper.sharding_strategy: .*Set reshard_after",
        ),
        (dict(model_wrapper=dict(auto_wrap_policy="maskfeat.wrap_blocks")), "'maskfeat.is_block'"),
        (
            dict(model_wrapper=dict(mixed_precision=dict(cast_root_forward_inputs=False))),
            "Remove it. cast_forward_inputs",
        ),
        (dict(model_wrapper=dict(mixed_precision=dict(param_dtype="bf16"))), "param_dtype='bf16'.*'bfloat16'"),
        (
            dict(activation_checkpointing=dict(check_fn="maskfeat.is_block", offload=True)),
            "offload: .*Known are check_fn",
        ),
    ],
)
def test_settings_of_other_versions_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        STRATEGIES.build(dict(type="maskfeat.FSDPStrategy", **settings))


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("maskfeat-fsdp_vit-tiny_moving-digits.py", {}, r"single one; start several with tools/dist_train.sh"),
        ("maskfeat-fsdp_vit-tiny_moving-digits.py", {"runner_type": "Runner"}, "runner_type='FlexibleRunner'"),
        ("maskfeat-fsdp_vit-tiny_moving-digits.py", {"env_cfg": None}, "needs env_cfg"),
        (
            "../demo/maskfeat_vit-tiny_moving-digits.py",
            {"default_hooks.checkpoint.filename_tmpl": "epoch_{}.sharded"},
            "only strategy.type='maskfeat.FSDPStrategy' writes",
        ),
        ("../demo/maskfeat_vit-tiny_moving-digits.py", {"load_from": "x.sharded"}, "load_from='x.sharded'"),
    ],
)
def test_what_cannot_work_is_one_error(digits, monkeypatch, tmp_path, config, options, message):
    monkeypatch.chdir(digits)
    with pytest.raises(ConfigError, match=message):
        build_trainer(load_config(CONFIGS / "scaling" / config, str(tmp_path), options))

"""Tests of loss and baseline on held-out data. They do not depend on the batches or on the number of processes."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import torch
from long_variants import long_except
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from warm_python import python

from maskfeat_plugin.apis import build_trainer, load_config
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import METRICS

ROOT = Path(__file__).parents[2]
HELD_OUT = "demo/maskfeat_vit-tiny_moving-digits_held-out.py"
CLIPS = "demo/maskfeat_mvit-tiny_moving-digits.py"
SEVERAL = "targets/maskfeat-pixel-hog_vit-tiny_moving-digits.py"
TOKENS = "targets/maskfeat-token_vit-tiny_moving-digits.py"


@pytest.fixture
def read(digits, tmp_path, monkeypatch):
    """Return a function that reads a config: training of 4 steps of 4 samples, evaluation of 7 held-out samples.

    The evaluation runs after every second step.
    """
    monkeypatch.chdir(digits)

    def read(path, **options):
        config = load_config(str(ROOT / "configs" / path), str(tmp_path / "work"))
        config.experiment_name = f"held_out_{time.monotonic_ns()}"
        if config.get("val_dataloader") is None:
            dataset = ConfigDict(config.train_dataloader.dataset, pipeline=config.test_pipeline)
            config.val_dataloader = dict(config.train_dataloader, dataset=dataset)
            config.val_dataloader.sampler = dict(type="DefaultSampler", shuffle=False)
            config.val_cfg, config.val_evaluator = dict(), dict(type="maskfeat.MaskedLossMetric")
        config.val_dataloader.dataset.indices = 7
        config.val_dataloader.batch_size = config.train_dataloader.batch_size = 4
        config.train_cfg.update(max_iters=4, val_interval=2)
        config.param_scheduler = None
        config.default_hooks.checkpoint.interval = 4
        config.default_hooks.logger.interval = 2
        config.merge_from_dict(options)
        return config

    return read


def of_one_batch(runner):
    """Compute the model's own loss and baseline for all held-out samples in one batch."""
    dataset = runner.val_dataloader.dataset
    model = runner.model.eval()
    data = model.data_preprocessor(pseudo_collate([dataset[i] for i in range(len(dataset))]), False)
    with torch.no_grad():
        losses = model(**data, mode="loss")
    losses.setdefault("loss", sum(value for name, value in losses.items() if name.startswith("loss_")))
    return {f"held_out/{name}": pytest.approx(float(value), rel=2e-5) for name, value in losses.items()}


@pytest.mark.parametrize("path", [HELD_OUT, CLIPS, SEVERAL, TOKENS])
def test_metrics_are_those_of_one_batch(read, path):
    runner = build_trainer(read(path))
    runner.train()
    metrics = runner.val_loop.run()
    expected = of_one_batch(runner)
    assert metrics == expected and metrics.keys() == expected.keys()


@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "cosine"])
def test_other_losses(read, kind):
    runner = build_trainer(read(HELD_OUT, **{"model.head.loss": dict(type="maskfeat.MaskedLoss", kind=kind)}))
    assert runner.val_loop.run() == of_one_batch(runner)


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_batches_of_any_size_give_the_same(read, batch_size):
    runner = build_trainer(read(HELD_OUT, **{"val_dataloader.batch_size": batch_size}))
    assert runner.val_loop.run() == of_one_batch(runner)


def test_masks_stay_the_same_while_training_changes_its_own(read):
    """The held-out masks depend neither on a schedule of the training's masks nor on the number of workers."""
    schedule = dict(type="maskfeat.MaskRatioHook", schedule=dict(type="linear", ratio=0.8), by_epoch=False)
    runner = build_trainer(read(HELD_OUT, custom_hooks=[schedule]))
    before = runner.val_loop.run()["held_out/baseline"]
    runner.train()
    first = runner.val_loop.run()
    assert first["held_out/baseline"] == before
    workers = build_trainer(read(HELD_OUT, **{"val_dataloader.num_workers": 2}))
    workers.model.load_state_dict(runner.model.state_dict())
    assert workers.val_loop.run() == {name: pytest.approx(value, rel=1e-6) for name, value in first.items()}


def test_every_evaluation_is_logged_as_it_is(read):
    """The value of each evaluation is logged. mmengine would log a mean, because the name contains "loss"."""
    config = read(HELD_OUT, **{"train_cfg.val_interval": 1})
    runner = build_trainer(config)
    seen = []
    evaluate = runner.val_evaluator.evaluate
    runner.val_loop.evaluator.evaluate = lambda size: seen.append(evaluate(size)) or seen[-1]
    runner.train()
    (file,) = Path(config.work_dir).glob("*/vis_data/scalars.json")
    lines = [line for line in map(json.loads, file.read_text().splitlines()) if "held_out/loss" in line]
    assert len(seen) == 4 and len({values["held_out/loss"] for values in seen}) == 4
    for name in ("held_out/loss", "held_out/baseline"):
        assert [line[name] for line in lines] == [values[name] for values in seen]


def test_the_best_is_kept_and_training_stops_early(read):
    stop = dict(type="EarlyStoppingHook", monitor="held_out/loss", min_delta=10.0, patience=2)
    config = read(HELD_OUT, **{"train_cfg.max_iters": 20, "train_cfg.val_interval": 1}, custom_hooks=[stop])
    runner = build_trainer(config)
    runner.train()
    assert runner.iter == 3  # one evaluation, and two that do not improve by at least 10
    (best,) = Path(config.work_dir).glob("best_held_out_loss_iter_*.pth")
    score = torch.load(best, weights_only=True)["message_hub"]["runtime_info"]["best_score"]
    runner.load_checkpoint(str(best))
    assert runner.val_loop.run()["held_out/loss"] == pytest.approx(score, rel=1e-6)


def test_the_best_by_auto_is_that_of_the_loss(read):
    config = read(HELD_OUT, **{"default_hooks.checkpoint.save_best": "auto"}, custom_hooks=None)
    build_trainer(config).train()
    assert len(list(Path(config.work_dir).glob("best_held_out_loss_iter_*.pth"))) == 1


@pytest.mark.parametrize("samples", long_except([7, 1], 0))
def test_two_processes_give_the_same(read, tmp_path, samples):
    """The sampler gives one of the samples twice; the second time does not count."""
    config = read(HELD_OUT, **{"val_dataloader.batch_size": 2, "val_dataloader.dataset.indices": samples})
    runner = build_trainer(config)
    runner.train()
    config.test_dataloader, config.test_cfg, config.test_evaluator = config.val_dataloader, dict(), config.val_evaluator
    config.dump(tmp_path / "config.py")
    checkpoint = str(Path(config.work_dir, "iter_4.pth"))
    tool = [str(ROOT / "tools" / "test.py"), str(tmp_path / "config.py"), checkpoint, "--launcher", "pytorch"]
    done = subprocess.run(
        [python(), "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *tool]
        + ["--work-dir", str(tmp_path / "two")],
        env=os.environ | dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-8000:]
    (file,) = (tmp_path / "two").glob("*/*.json")
    found = json.loads(file.read_text())
    expected = of_one_batch(runner)
    assert {name: found[name] for name in expected} == expected


def test_a_mask_generator_without_seed_is_refused(read):
    config = read(HELD_OUT)
    for transform in config.val_dataloader.dataset.pipeline:
        transform.pop("seed", None)
    with pytest.raises(ConfigError, match=r"val_dataloader\.dataset\.pipeline\[\d\].*seed=0"):
        build_trainer(config)


def test_a_pipeline_without_masks_is_refused(read):
    config = read(HELD_OUT)
    pipeline = config.val_dataloader.dataset.pipeline
    config.val_dataloader.dataset.pipeline = [item for item in pipeline if "MaskGenerator" not in item.type]
    with pytest.raises(ConfigError, match="val_dataloader: the pipeline has no mask generator"):
        build_trainer(config)


def test_a_loss_of_others_has_to_be_named(read):
    path = "mixing/maskfeat_vit-tiny_mim-head_moving-digits.py"
    with pytest.raises(ConfigError, match=r"does not know the loss.*Set loss=dict\(kind='mse'\)"):
        build_trainer(read(path)).val_loop.run()
    metrics = build_trainer(read(path, **{"val_evaluator.loss": dict(kind="mse")})).val_loop.run()
    assert 0 < metrics["held_out/baseline"] < 1 < 10 * metrics["held_out/loss"]


def test_a_model_without_masked_features_is_refused():
    metric = METRICS.build(dict(type="maskfeat.MaskedLossMetric"))
    with pytest.raises(ConfigError, match=r"Set model\.type='maskfeat\.MaskFeat'"):
        metric.process(None, [dict(pred_label=1)])

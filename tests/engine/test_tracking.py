"""W&B and MLflow, set up as in docs/logs.md: curves and pictures of a training and of its resumption, offline."""

import json
import re
import time
from pathlib import Path

import pytest
from mmengine.hooks import Hook
from PIL import Image

from maskfeat_plugin.apis import build_trainer, load_config, train

ROOT = Path(__file__).parents[2]


def documented(backend):
    """Return the block of docs/logs.md that sets up a backend."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "logs.md").read_text(), re.DOTALL | re.MULTILINE)
    (block,) = (block for block in blocks if backend in block)
    return block


@pytest.fixture
def run(digits, tmp_path, monkeypatch):
    """Train a config with a backend in an empty folder, 2 steps or up to ``steps``, and return the runner."""
    (tmp_path / "data").symlink_to(digits / "data")
    monkeypatch.chdir(tmp_path)

    def train_on(backend, steps, resume=None, hook=None):
        base = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"
        Path("tracked.py").write_text(f"_base_ = {str(base)!r}\n{documented(backend)}")
        cfg = load_config("tracked.py", resume=resume)
        cfg.experiment_name = f"{backend}_{time.monotonic_ns()}"  # by default two runners in the same second share it
        cfg.train_dataloader.update(batch_size=8)
        cfg.train_cfg.max_iters = steps
        cfg.param_scheduler = None
        cfg.visualizer.type = "maskfeat.MaskFeatVisualizer"
        cfg.default_hooks.logger.interval = 1
        cfg.default_hooks.checkpoint = dict(type="maskfeat.CheckpointHook", interval=2, by_epoch=False)
        cfg.default_hooks.visualization = dict(type="maskfeat.MaskFeatVisualizationHook", interval=2, indices=(0, 5))
        runner = build_trainer(cfg)
        if hook is not None:
            runner.register_hook(hook)
        train(runner)
        return runner

    return train_on


def last_record(runner):
    """Return the last line that mmengine's own backend has written."""
    return json.loads(Path(runner.log_dir, "vis_data", "scalars.json").read_text().splitlines()[-1])


class Summary(Hook):
    """Hook that keeps W&B's summary at the end of a training."""

    def after_train(self, runner):
        run = runner.visualizer.get_backend("WandbVisBackend").experiment.run
        self.config, self.values = dict(run.config), dict(run.summary)


def test_wandb(run, tmp_path, monkeypatch):
    import wandb

    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    for steps, resume in ((2, None), (4, "auto")):
        summary = Summary()
        runner = run("WandbVisBackend", steps, resume, summary)
        assert summary.values["iter"] == steps
        assert summary.values["loss"] == pytest.approx(last_record(runner)["loss"])
        assert summary.config["model"]["type"] == "maskfeat.MaskFeat"
        pictures = sorted(Path(runner.log_dir).rglob("wandb/offline-run-*/files/media/images/prediction_*.png"))
        assert len(pictures) == 4 and all(Image.open(path).height > 200 for path in pictures)
    wandb.teardown()


def test_mlflow(run):
    import mlflow

    runner = [run("MLflowVisBackend", 2), run("MLflowVisBackend", 4, "auto")][1]
    client = mlflow.MlflowClient("sqlite:///work_dirs/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'maskfeat'")
    second, first = client.search_runs([experiment.experiment_id])
    assert first.info.status == second.info.status == "FINISHED"
    for found, steps in ((first, [1, 2]), (second, [3, 4])):
        history = client.get_metric_history(found.info.run_id, "loss")
        assert sorted(metric.step for metric in history) == steps
        assert found.data.params["model.type"] == "maskfeat.MaskFeat"
        files = {file.path for file in client.list_artifacts(found.info.run_id)}
        drawn = {f"prediction_{index}_{step}.png" for index in (0, 5) for step in (steps[0] - 1, steps[1])}
        assert {"config.py", "tracked.py"} < files and {file for file in files if file.endswith(".png")} >= drawn
    assert second.data.metrics["loss"] == pytest.approx(last_record(runner)["loss"])
    assert not Path("mlruns").exists()

"""Trainings that run only once for all tests of their files."""

import os
import signal
import time
from pathlib import Path

import pytest
from mmengine.hooks import Hook

from maskfeat_plugin.apis import build_tester, build_trainer, load_config, train
from maskfeat_plugin.registry import HOOKS

CONFIGS = Path(__file__).parents[1] / "configs" / "demo"
OPTIONS = {
    "train_dataloader.batch_size": 8,
    "param_scheduler": [dict(type="ConstantLR", factor=1.0, by_epoch=False)],
    "default_hooks.logger.interval": 1,
    "default_hooks.checkpoint.interval": 5,
    "default_hooks.checkpoint.save_optimizer": True,
}


@HOOKS.register_module(force=True)
class StopInTest(Hook):
    """Hook that imitates Ctrl-C or SIGTERM after a number of iterations."""

    priority = "VERY_LOW"  # after the step is logged

    def __init__(self, after, by):
        self.after, self.by = after, by

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.after:
            if self.by == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                raise KeyboardInterrupt


@pytest.fixture(scope="session")
def interrupted_training(digits):
    """Return the work directory of a pre-training of 20 iterations in three runs.

    The first run ends by Ctrl-C after 9 iterations, with a checkpoint of iteration 5. The second ends by SIGTERM after
    14 iterations, with a checkpoint of iteration 14. The third runs to the end. Each iteration is logged, and two
    samples are drawn after every 10.
    """
    work_dir = digits / "parts"
    if (work_dir / "iter_20.pth").exists():  # another conftest has the same fixture
        return work_dir
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(digits)
        for after, by, end in ((9, "Ctrl-C", KeyboardInterrupt), (14, "SIGTERM", SystemExit), (None, "", None)):
            hooks = [dict(type="maskfeat.MaskFeatVisualizationHook", interval=10, indices=(0, 1))]
            if end:
                hooks.append(dict(type="maskfeat.StopInTest", after=after, by=by))
            options = {
                **OPTIONS,
                "train_cfg.max_iters": 20,
                "custom_hooks": hooks,
                "visualizer.type": "maskfeat.MaskFeatVisualizer",
            }
            config = CONFIGS / "maskfeat_vit-tiny_moving-digits.py"
            resume = "auto" if work_dir.exists() else None
            runner = build_trainer(load_config(str(config), str(work_dir), options, resume=resume))
            try:
                if end:
                    with pytest.raises(end):
                        train(runner)
                else:
                    train(runner)
            finally:
                signal.signal(signal.SIGTERM, handler)
            time.sleep(1.1)  # names of runs have a resolution of one second
    return work_dir


@pytest.fixture(scope="session")
def finetuning(digits):
    """Return the work directory of a classifier, trained for 4 iterations, validated after 2 and 4, and tested."""
    work_dir = digits / "finetuning"
    if (work_dir / "iter_4.pth").exists():
        return work_dir
    config = str(CONFIGS / "vit-tiny_moving-digits-class.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(digits)
        options = {**OPTIONS, "train_cfg.max_iters": 4, "train_cfg.val_interval": 2, "default_hooks.logger.interval": 3}
        train(build_trainer(load_config(config, str(work_dir), options)))
        time.sleep(1.1)
        cfg = load_config(config, str(work_dir))
        cfg.load_from = str(work_dir / "iter_4.pth")
        build_tester(cfg).test()
    return work_dir

"""Functions that run or resume a training on a folder."""

from pathlib import Path

from mmengine.config import Config

from maskfeat_plugin.config.load import load_config
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.files import writing
from maskfeat_plugin.running.training import build_trainer, train

from .training_length import describe_duration, measure_step, set_length


def run_training(cfg: Config, count: int, steps: int, hours: float | None = None, dry_run: bool = False) -> None:
    """Measure a step, print the plan, write the config and train.

    Args:
        cfg (Config): Config of :func:`.pretraining_config` or :func:`.finetuning_config`.
        count (int): Number of files to train on.
        steps (int): Number of training steps.
        hours (float, optional): Length of the training in hours, which replaces ``steps``. Defaults to None.
        dry_run (bool): Whether to stop before the training. Defaults to False.

    Raises:
        ConfigError: If the config does not work or cannot be written.
    """
    print("Measuring the time of a step ...", flush=True)
    seconds = measure_step(cfg)
    if hours is not None:
        steps = max(1, round(hours * 3600 / seconds))
    set_length(cfg, steps)
    batch = cfg.train_dataloader.batch_size
    print(
        f"Plan: {steps:,} steps of {batch} samples, {steps * batch / count:.1f} times each file. A step takes "
        f"{seconds:.2g} seconds here, the training about {describe_duration(steps * seconds)}.",
        flush=True,
    )
    path = Path(cfg.filename)
    with writing(path) as unfinished:
        unfinished.write_text(cfg.pretty_text, encoding="utf-8")
    print(f"Config: {path}. To train by it again or to change it: maskfeat train {path}", flush=True)
    if not dry_run:
        train(build_trainer(cfg))


def resume_training(work_dir: Path) -> None:
    """Continue an interrupted training of :func:`run_training`.

    Args:
        work_dir (Path): Its work directory.

    Raises:
        ConfigError: If there is no config in the work directory.
    """
    path = work_dir / "config.py"
    if not path.is_file():
        raise ConfigError(
            f"--resume: {path} does not exist. Give the --work-dir of the training, or leave out --resume."
        )
    train(build_trainer(load_config(path, str(work_dir), resume="auto")))

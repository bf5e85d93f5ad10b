"""Trainings and tests of the demo's configs in several processes: ``python worlds.py JOBS FOLDER``.

test_processes.py runs this file. JOBS is a JSON list of [name, task, number of processes, arguments of the task]. The
result of process r of a job is written to FOLDER/name.r.pth. The processes are forked from this one, which has imported
everything.
"""

import contextlib
import io
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import torch
import torch.utils.tensorboard  # noqa: F401 (once, before the fork)
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook

import maskfeat_plugin  # noqa: F401 (registers the components)
from maskfeat_plugin.apis import ConfigError, build_tester, build_trainer, load_config
from maskfeat_plugin.registry import HOOKS, TRANSFORMS
from maskfeat_plugin.running import same_start
from maskfeat_plugin.running.command_line import run_tool
from maskfeat_plugin.running.distributed import connect_processes

CONFIGS = Path(__file__).parents[2] / "configs"


@TRANSFORMS.register_module()
class UnevenMaskInTest(BaseTransform):
    """Transform that masks different numbers of tokens in different samples, depending on their number."""

    def transform(self, results):
        mask = results["mask"].copy()
        mask.reshape(-1)[: mask.size // 8 * (results["sample_idx"] % 7)] = True
        results["mask"] = mask
        return results


@HOOKS.register_module()
class KillInTest(Hook):
    """Hook that kills one process in the middle of a training, as the system would do."""

    def __init__(self, rank):
        self.rank = rank

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 2 and get_rank() == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)


def load(config, folder, options=None):
    """Load a config whose processes meet in a file, because a free port may be in use when they meet."""
    cfg = load_config(CONFIGS / config, folder, options, launcher="pytorch")
    meeting = dict(backend="gloo", init_method=f"file://{folder}.meeting")
    cfg.merge_from_dict(dict(env_cfg=dict(dist_cfg=meeting)))
    cfg.env_cfg.dist_cfg.update(rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    return cfg


def pretraining(config, folder, batch_size, same_masks=True, uneven=False, samples=None, options=None):
    """Return a config like the demo's, for plain gradient descent on samples without randomness.

    It trains one epoch of ``samples`` samples, or the iterations of the config or of the options.
    """
    cfg = load(config, folder, options)
    cfg.param_scheduler = None
    cfg.optim_wrapper.optimizer = dict(type="SGD", lr=0.1)
    cfg.train_dataloader.batch_size = batch_size
    if samples is not None:
        cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=1)
        cfg.train_dataloader.sampler.type = "DefaultSampler"
        cfg.train_dataloader.dataset.indices = samples
    if same_masks:
        pipeline = list(cfg.test_pipeline)
        if uneven:
            pipeline.insert(-1, dict(type="maskfeat.UnevenMaskInTest"))
        cfg.train_dataloader.dataset.pipeline = pipeline
    return cfg


def train(folder, **settings):
    """Return loss and masked tokens of each batch, gradients and rate of each step, and the final weights."""
    cfg = pretraining(folder=folder, **settings)
    runner = build_trainer(cfg)
    runner.train_loop  # noqa: B018 (built on access, as train() does)
    model = runner.model.module
    steps, losses, tokens = [], [], []

    def note(optimizer, args, kwargs):
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        steps.append(dict(lr=optimizer.param_groups[0]["lr"], gradients=gradients))

    inner = model.forward

    def forward(*args, mask, **kwargs):
        found = inner(*args, mask=mask, **kwargs)
        tokens.append(int(mask.sum()))
        losses.append(sum(value for name, value in found.items() if "loss" in name).item())
        return found

    model.forward = forward
    optim_wrapper = runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    optim_wrapper.optimizer.register_step_pre_hook(note)
    runner.train()
    return dict(
        losses=losses, tokens=tokens, steps=steps, weights={k: v.clone() for k, v in model.state_dict().items()}
    )


def masks(folder, workers, **settings):
    """Return numbers and masks of the first four samples that this process trains on."""
    cfg = pretraining(folder=folder, same_masks=False, **settings)
    cfg.train_dataloader.update(num_workers=workers, persistent_workers=False)
    dataloader = build_trainer(cfg).train_dataloader
    samples = next(iter(dataloader))["data_samples"][:4]
    return [(sample.get("img_path"), torch.as_tensor(sample.mask)) for sample in samples]


def test(folder, config, checkpoint=None, options=None):
    """Return the metrics of a fine-tuning config."""
    cfg = load(config, folder, options)
    cfg.load_from = checkpoint
    return {name: float(value) for name, value in build_tester(cfg).test().items()}


def finetune(folder, config, steps):
    """Write a checkpoint to ``folder``/iter_STEPS.pth."""
    cfg = load(config, folder)
    cfg.train_cfg.update(max_iters=steps, val_interval=steps)
    cfg.param_scheduler = None
    cfg.train_dataloader.batch_size = 8
    cfg.default_hooks.checkpoint.interval = steps
    build_trainer(cfg).train()


def watched(folder, config, labelled):
    """Return k-NN accuracies after a training with everything that writes, and the files that this process wrote."""
    written = []

    def audit(event, args):
        if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
            path = args[0]
        elif event == "os.rename":
            path = args[1]
        else:
            return
        # such an opened folder is a file without a name, which leaves nothing behind
        if isinstance(path, str | Path) and Path(path).resolve().is_relative_to(folder) and not Path(path).is_dir():
            written.append(str(path))

    sys.addaudithook(audit)
    cfg = pretraining(config, folder, batch_size=4)
    cfg.optim_wrapper.optimizer.lr = 0.0
    cfg.train_cfg.max_iters = 2
    cfg.default_hooks.checkpoint.interval = 1
    data = Config.fromfile(CONFIGS / labelled)
    query, votes = data.val_dataloader, data.test_dataloader
    query.dataset.indices = votes.dataset.indices = 23  # another number for each process
    hook = dict(type="maskfeat.KNNHook", by_epoch=False, k=(1, 3), num_classes=10)
    cfg.custom_hooks = [dict(hook, features_dataloader=votes, query_dataloader=query)]
    runner = build_trainer(cfg)
    runner.train()
    names = [name for name in runner.message_hub.log_scalars if name.startswith("knn/")]
    return dict(knn={name: runner.message_hub.get_scalar(name).current() for name in names}, written=written)


def refused(folder, **settings):
    """Return the message with which a training is refused."""
    try:
        build_trainer(pretraining(folder=folder, **settings))
    except ValueError as error:
        return str(error)
    return None


def absent(folder, rank, **settings):
    """Return the message for a training whose initial weights are missing on one machine."""
    cfg = pretraining(folder=folder, **settings)
    here = CONFIGS / "demo" / "weights" / "maskfeat_vit-tiny_moving-digits.pth"
    cfg.load_from = (here if int(os.environ["RANK"]) != rank else Path(f"{folder}/absent.pth")).as_uri()
    try:
        build_trainer(cfg)
    except ConfigError as error:
        return str(error)
    return None


def different(folder, changes=None, version=None):
    """Return the message for two processes if the second has other settings or another version of the package."""
    data = {"train_dataloader.dataset.data_root": "/somewhere/data"}
    cfg = load("demo/maskfeat_vit-tiny_moving-digits.py", folder, data)
    if os.environ["RANK"] == "1":
        cfg.merge_from_dict(changes or {})
        same_start.__version__ = version or same_start.__version__
    try:
        connect_processes(cfg)
    except ConfigError as error:
        return str(error)
    return None


def killed(folder, rank, **settings):
    """Return exit status and output of a process after another one is killed, and the seconds of training."""
    cfg = pretraining(folder=folder, **settings)
    cfg.train_cfg.max_iters = 100_000
    cfg.custom_hooks = [dict(type="maskfeat.KillInTest", rank=rank)]
    runner = build_trainer(cfg)
    said, start = io.StringIO(), time.monotonic()
    with contextlib.redirect_stderr(said):
        status = run_tool(runner.train, hint="--resume goes on from the last checkpoint")
    return dict(status=status, said=said.getvalue(), seconds=time.monotonic() - start)


TASKS = dict(
    train=train,
    masks=masks,
    test=test,
    finetune=finetune,
    watched=watched,
    refused=refused,
    absent=absent,
    different=different,
    killed=killed,
)


def run(name, task, size, arguments, folder):
    """Fork the processes of a job and wait for them.

    Returns:
        bool: True if all ended without an error, or were killed.
    """
    os.environ["WORLD_SIZE"] = str(size)
    children = []
    for rank in range(size):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        child = os.fork()
        if child == 0:
            status = 1
            try:
                found = TASKS[task](folder=str(folder / name), **arguments)
                torch.save(found, folder / f"{name}.{rank}.pth")
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        children.append(child)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return all(status in (0, -signal.SIGKILL) for status in statuses)


if __name__ == "__main__":
    folder = Path(sys.argv[2]).resolve()
    for job in json.loads(Path(sys.argv[1]).read_text()):
        if not run(*job, folder):
            sys.exit(f"{job[0]} failed")

"""The small configs of sounds and volumes train from pre-training to classification, with all weights."""

from pathlib import Path

import pytest
import torch

from maskfeat_plugin.apis import build_trainer, load_config, train
from maskfeat_plugin.checkpoints import load_into, read_checkpoint

SIGNALS = Path(__file__).parents[2] / "configs" / "signals"
PAIRS = dict(
    sounds=("maskfeat_vit-tiny_sounds", "vit-tiny_sounds-class"),
    solids=("maskfeat_mvit-tiny_solids", "mvit-tiny_solids-class"),
)
# The norm after mean pooling. In pre-training, the norm has another place
NEW = dict(sounds=("ln2.weight", "ln2.bias"), solids=("norm0.weight", "norm0.bias"))


def config(name, work_dir, use_data, **options):
    options = {"train_cfg.max_iters": 2, "param_scheduler": [], "default_hooks.checkpoint.interval": 2, **options}
    cfg = load_config(str(SIGNALS / f"{name}.py"), str(work_dir), options)
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if cfg.get(key):
            use_data(cfg[key].dataset)
            cfg[key].batch_size = 4
    return cfg


@pytest.mark.parametrize("kind", PAIRS)
def test_from_pretraining_to_classification(kind, tmp_path, use_data):
    pretraining, finetuning = PAIRS[kind]
    train(build_trainer(config(pretraining, tmp_path / "pre", use_data)))
    checkpoint = tmp_path / "pre" / "iter_2.pth"
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]

    options = {
        "model.backbone.init_cfg.type": "maskfeat.Pretrained",
        "model.backbone.init_cfg.checkpoint": str(checkpoint),
        "train_cfg.val_interval": 2,
    }
    trainer = build_trainer(config(finetuning, tmp_path / "fine", use_data, **options))
    report = load_into(trainer.model.backbone, read_checkpoint(str(checkpoint)))
    backbone = trainer.model.backbone.state_dict()
    new = set(backbone) - set(report.loaded)
    assert new == set(NEW[kind]) and not report.resized and not report.adapted
    for name in report.loaded:
        torch.testing.assert_close(backbone[name], saved[f"backbone.{name}"], rtol=0, atol=0)
    train(trainer)
    assert (tmp_path / "fine" / "iter_2.pth").is_file()
    assert '"accuracy/top1"' in scalars(tmp_path / "fine") or '"acc/top1"' in scalars(tmp_path / "fine")


def scalars(folder):
    return "".join(path.read_text() for path in folder.glob("*/vis_data/*.json"))

"""The full-size configs and their recipes, from the table of the release notes; trainings to be interrupted."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from mmengine.config import Config
from trainings import Trainings

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Recipe:
    """One row of the recipes, in their own terms."""

    path: str
    num_layers: int
    epochs: int
    warmup: int
    lr: float  # for `per` images or videos
    per: int
    layer_decay: float = 1.0
    clip_grad: float | None = None
    drop_path: float = 0.0

    def config(self):
        return Config.fromfile(CONFIGS / self.path)


RECIPES = (
    Recipe(
        "pretrain/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py", 12, 300, 30, lr=2e-4, per=256, clip_grad=0.02
    ),
    Recipe(
        "pretrain/maskfeat_vit-large-p16_16xb128-amp-coslr-1600e_in1k.py",
        24,
        1600,
        30,
        lr=2e-4,
        per=256,
        clip_grad=0.02,
    ),
    Recipe(
        "pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py", 16, 300, 10, lr=1e-4, per=32, clip_grad=0.02
    ),
    Recipe(
        "pretrain/maskfeat_mvit-large-16x4_64xb8-amp-coslr-800e_k400.py", 48, 800, 10, lr=1e-4, per=32, clip_grad=0.02
    ),
    Recipe(
        "classification/vit-base-p16_maskfeat-pre_8xb256-amp-coslr-100e_in1k.py",
        num_layers=12,
        epochs=100,
        warmup=20,
        lr=2e-3,
        per=512,
        layer_decay=0.65,
        drop_path=0.1,
    ),
    Recipe(
        "classification/vit-large-p16_maskfeat-pre_16xb128-amp-coslr-100e_in1k.py",
        num_layers=24,
        epochs=100,
        warmup=20,
        lr=2e-3,
        per=512,
        layer_decay=0.65,
        drop_path=0.1,
    ),
    Recipe(
        "recognition/mvit-small-16x4_maskfeat-pre_16xb16-amp-coslr-100e_k400.py",
        num_layers=16,
        epochs=100,
        warmup=20,
        lr=6e-4,
        per=16,
        layer_decay=0.75,
        clip_grad=5.0,
        drop_path=0.1,
    ),
    Recipe(
        "recognition/mvit-large-16x4_maskfeat-pre_32xb8-amp-coslr-100e_k400.py",
        num_layers=48,
        epochs=100,
        warmup=20,
        lr=6e-4,
        per=16,
        layer_decay=0.75,
        clip_grad=5.0,
        drop_path=0.1,
    ),
)


@pytest.fixture(params=RECIPES, ids=lambda r: Path(r.path).name.split("-amp")[0])
def recipe(request):
    return request.param


@pytest.fixture(scope="session")
def trainings(digits):
    """Starts trainings in processes of their own, see :mod:`trainings`."""
    server = Trainings(digits, PYTHONPATH=str(Path(__file__).parent))
    yield server
    server.close()

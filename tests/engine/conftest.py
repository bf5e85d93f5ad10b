"""The full-size configs with their recipes, from the authors' released configs, and trainings for interruptions."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from mmengine.config import Config
from trainings import Trainings

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


@dataclass(frozen=True)
class Recipe:
    """Recipe of one config: learning rates for a batch of ``per`` images or videos."""

    path: str
    num_layers: int
    epochs: int
    warmup_epochs: int
    lr: float
    per: int
    lr_start: float
    lr_end: float
    layer_decay: float
    clip_grad: float | None
    drop_path_rate: float
    weight_decay: float
    optimizer: str = "AdamW"

    def config(self):
        return Config.fromfile(CONFIGS / self.path)

    def scale(self):
        """Return the quotient of the config's total batch, in its name, and ``per``."""
        processes, batch = map(int, re.search(r"_(\d+)xb(\d+)-", self.path).groups())
        return processes * batch / self.per


RECIPES = [
    Recipe(path, **values)
    for path, values in json.loads((ROOT / "tests" / "data" / "recipes.json").read_text()).items()
]


@pytest.fixture(params=RECIPES, ids=lambda r: Path(r.path).name.split("-amp")[0])
def recipe(request):
    return request.param


@pytest.fixture(scope="session")
def trainings(digits):
    """Return a starter of trainings in separate processes, see :mod:`trainings`."""
    server = Trainings(digits, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), str(ROOT)]))
    yield server
    server.close()

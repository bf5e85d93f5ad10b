"""Data of the studies: MovingDigits with larger digits and fewer distractors than the demo's.

On the demo's data, models learn little in trainings of minutes, so that all settings are alike.
"""

import dataclasses
from pathlib import Path

from maskfeat_plugin.datasets.moving_digits import build_moving_digits
from maskfeat_plugin.errors import ConfigError
from projects import ROOT
from projects.demo.orchestrate import DATA as DEMO

DATA = {
    "image": dataclasses.replace(DEMO, scale=(0.8, 0.95), background="dark"),
    # If all digits are light, the motion is recognised without pre-training: the centre of the light pixels is enough.
    "video": dataclasses.replace(DEMO, scale=(0.8, 0.95)),
}
ROOTS = {"image": ROOT / "data" / "study_images", "video": ROOT / "data" / "study_clips"}


def build_data(kind: str) -> Path:
    """Build the data of a kind, unless it exists.

    Args:
        kind (str): "image" or "video".

    Returns:
        Path: Root of the data.

    Raises:
        ConfigError: If the root holds other data.
    """
    try:
        return build_moving_digits(ROOTS[kind], DATA[kind])
    except FileExistsError as error:
        raise ConfigError(f"{error}; or delete {ROOTS[kind]}") from error

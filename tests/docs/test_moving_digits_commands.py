"""Commands that build MovingDigits and train on its motions: the data has as many classes as the config."""

import shlex

import pytest
from doc_blocks import ROOT, code_blocks, commands

from maskfeat_plugin.apis import load_config
from maskfeat_plugin.datasets.moving_digits.motions import MOTIONS

DEMO = ROOT / "configs" / "demo"
# Number of classes besides the motions: AVA has small, large, darker, lighter, and mmaction2's class 0
OTHERS = {"mvit-tiny_moving-digits-motion.py": 0, "mvit-tiny_moving-digits-ava.py": 5}
PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if "tools/data/moving_digits.py" in path.read_text()]


def trainings():
    """Return the pages, their configs that classify motions, and the motions of the data that the page builds."""
    for page in PAGES:
        for block in code_blocks(page):
            motions = None
            for line in commands(block) if block.language in ("shell", "bash") else ():
                words = shlex.split(line, comments=True)
                if "tools/data/moving_digits.py" in words:
                    named = words[words.index("--motions") + 1 :] if "--motions" in words else MOTIONS
                    motions = [word for word in named if word in MOTIONS]
                for name in OTHERS.keys() & {word.rpartition("/")[2] for word in words if "tools/train.py" in words}:
                    if motions is not None:
                        yield page.name, name, motions


@pytest.mark.parametrize(("page", "name", "motions"), list(trainings()), ids=str)
def test_data_has_the_classes_of_the_config(page, name, motions):
    assert load_config(DEMO / name).num_classes == len(motions) + OTHERS[name]


def test_trainings_are_found():
    assert {(page, name) for page, name, _ in trainings()} >= {
        ("action_detection.md", "mvit-tiny_moving-digits-ava.py"),
        ("export.md", "mvit-tiny_moving-digits-motion.py"),
    }

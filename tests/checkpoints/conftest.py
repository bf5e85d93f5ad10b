"""Fixtures of the checkpoint tests."""

import pytest
import torch


@pytest.fixture
def save(tmp_path):
    """Return a function that writes a checkpoint file and returns its path."""

    def write(content, name="checkpoint.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write

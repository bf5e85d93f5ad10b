"""Checks of a device, here of the CPU, and checks that fail."""

import torch

from maskfeat_plugin.models import HOGGenerator
from projects.benchmark.device_checks import check_device, format_checks, striped_images

CPU = torch.device("cpu")


def test_the_cpu_passes():
    checks = list(check_device(CPU, compiler="aot_eager"))
    assert len(checks) == 5
    assert all(check.passed for check in checks), format_checks(checks)
    assert format_checks(checks).count("| passed |") == 5


def test_a_fault_is_a_check_that_failed(monkeypatch):
    monkeypatch.setattr("projects.benchmark.device_checks.STEPS", 1)  # too few to learn
    monkeypatch.setattr(HOGGenerator, "generate", lambda *args: 1 / 0)
    monkeypatch.setattr(HOGGenerator, "generate_at", lambda *args: 1 / 0)
    checks = list(check_device(CPU, compiler="eager"))
    assert not any(check.passed for check in checks)
    assert "ZeroDivisionError" in format_checks(checks)


def test_images_are_the_same_for_a_seed():
    images = striped_images(3, 16, seed=1)
    assert images.shape == (3, 3, 16, 16) and torch.equal(images, striped_images(3, 16, seed=1))
    assert not torch.equal(images, striped_images(3, 16, seed=2))

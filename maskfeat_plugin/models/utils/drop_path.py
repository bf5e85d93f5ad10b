"""Stochastic depth of upstream's backbones."""

from mmcv.cnn.bricks.drop import DropPath
from torch import nn


def use_plain_drop_rates(model: nn.Module) -> None:
    """Make the rates of stochastic depth Python numbers.

    Upstream computes them with NumPy. ``torch.compile`` takes NumPy's numbers for tensors, and cannot branch on them.

    Args:
        model (nn.Module): A backbone that was built.
    """
    for module in model.modules():
        if isinstance(module, DropPath):
            module.drop_prob = float(module.drop_prob)

"""Random tensors and weights, and comparison up to rounding."""

import torch


def random(*size, seed=0, dtype=torch.float32):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def assert_near(ours, theirs, bound=2e-5):
    """Check equality up to a bound relative to the largest value. Gradients that should be zero are rounding errors."""
    noise = 1e-3 * max(b.abs().max() for b in theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert (a.double() - b.double()).abs().max() <= bound * max(b.abs().max(), noise)


def randomise(model):
    """Set random weights in all parameters: relative positions and the class token are zero initially."""
    for i, parameter in enumerate(model.parameters()):
        spread = random(*parameter.shape, seed=i) * 0.2
        parameter.data.copy_(1 + spread if parameter.ndim == 1 else spread)
    return model

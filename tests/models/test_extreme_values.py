"""Constant, black and extreme frames of every type: HOG, pixels, loss and gradients stay finite."""

import math

import pytest
import torch
from test_maskfeat import BUILD

from maskfeat_plugin.registry import MODELS

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64)
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
RANGES = {
    **{str(d): (d, torch.iinfo(d).min, torch.iinfo(d).max) for d in INTEGERS},
    **{str(d): (d, torch.finfo(d).min, torch.finfo(d).max) for d in FLOATS},
    # the smallest possible steps
    **{f"tiny-{d}": (d, 0.0, torch.finfo(d).smallest_normal) for d in FLOATS[:3]},
    "fractions": (torch.float32, 0.0, 1.0),
    "infinite": (torch.float32, -math.inf, math.inf),
}
HOG = dict(type="maskfeat.HOGGenerator", cell_size=4)
TARGETS = {
    **{f"hog-{norm}": dict(HOG, norm=norm) for norm in ("none", "l1", "l2", "l2-hys")},
    "hog-blocks": dict(HOG, block_size=2),
    "hog-opponent": dict(HOG, color_space="opponent", gaussian_window=16, signed=True, gradient="central"),
    "pixels": dict(type="maskfeat.PixelGenerator"),
    "pixels-unnormalised": dict(type="maskfeat.PixelGenerator", norm=False),
}


@pytest.fixture(scope="module", params=["image", "video"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def model(kind):
    torch.manual_seed(0)
    model = BUILD[kind]()
    model.init_weights()
    return model


@pytest.fixture(scope="module")
def targets():
    return {name: MODELS.build(config) for name, config in TARGETS.items()}


def frames(kind, dtype, low, high):
    """Build two flat batches, and three batches with black beside white."""
    shape = (2, 3, 32, 32) if kind == "image" else (2, 3, 4, 32, 32)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    for is_high in (y < 0, y >= 0, (x + y) % 2 == 0, x < 19, (x == 5) & (y == 5)):
        values = torch.tensor([low, high], dtype=dtype)
        yield values[is_high.long().expand(shape)]


def mask_of(kind):
    mask = torch.zeros(2, 1 if kind == "image" else 2, 4, 4, dtype=torch.bool)
    mask[..., ::2] = True
    return mask


@pytest.mark.parametrize("name", RANGES)
def test_targets_loss_and_gradients_are_finite(model, targets, kind, name):
    mask = mask_of(kind)
    for inputs in frames(kind, *RANGES[name]):
        inputs = model.data_preprocessor(dict(inputs=inputs))["inputs"]
        assert inputs.dtype == torch.float32 and inputs.isfinite().all()
        for target, generator in targets.items():
            features = generator(inputs, mask)
            assert features.dtype == torch.float32 and features.isfinite().all(), target
        for precision in (torch.float32, torch.bfloat16, torch.float16):
            model.zero_grad()
            with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
                losses = model(inputs, mask=mask, mode="loss")
            losses["loss"].backward()
            assert all(loss.isfinite() for loss in losses.values()), precision
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            assert gradients and all(g.isfinite().all() for g in gradients), precision


def test_flat_frames_of_every_grey(model):
    """Each cell has the same histogram, all zeros or one bin, as in the authors' code.

    If the normalised grey is not a round number, the sums of the Sobel filter leave a rounding error. The normalisation
    of the cell scales this error to the length of any other gradient.
    """
    greys = torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, 3, 16, 16)
    inputs = model.data_preprocessor(dict(inputs=greys))["inputs"]
    cells = MODELS.build(HOG).hog(inputs)  # (256, 3, 9, 4, 4)
    assert torch.equal(cells, cells[..., :1, :1].expand_as(cells))
    lengths = cells.norm(dim=2)
    assert ((lengths == 0) | ((lengths - 1).abs() < 1e-6)).all()
    assert (MODELS.build(dict(HOG, norm="none")).hog(inputs) < 1e-4).all()


def test_flat_frames_have_no_pixels(targets, kind):
    """After each token is normalised by itself, flat tokens are zero."""
    for value in (0.0, 1.0, -2.1179, 100.0):
        inputs = torch.full((2, 3, 32, 32) if kind == "image" else (2, 3, 4, 32, 32), value)
        assert targets["pixels"](inputs, mask_of(kind)).abs().max() < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_hog_of_half_precision_is_that_of_its_values(targets, kind, dtype):
    inputs = torch.randn((2, 3, 32, 32) if kind == "image" else (2, 3, 4, 32, 32)).to(dtype)
    mask = mask_of(kind)
    for name, generator in targets.items():
        torch.testing.assert_close(generator(inputs, mask), generator(inputs.float(), mask), msg=name)


def test_pixels_that_pictures_have_stay_as_they_are(model):
    values = torch.tensor([0.0, 1.0, 255.0, 65504.0, -65504.0]).view(1, 1, 1, 5).expand(1, 3, 4, 5)
    inputs = model.data_preprocessor(dict(inputs=values))["inputs"]
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    assert torch.equal(inputs, (values - mean) / std)

"""The fused HOG kernel: equal to the PyTorch operations, on a GPU or in Triton's interpreter (see conftest.py)."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from triton.compiler.errors import CompilationError
from triton.runtime.errors import InterpreterError

from maskfeat_plugin.ops.gate import fast_paths
from maskfeat_plugin.ops.gradient_histograms import sobel
from maskfeat_plugin.ops.triton_histograms import token_histograms
from maskfeat_plugin.registry import MODELS

ROOT = Path(__file__).parents[2]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def build(**kwargs):
    return MODELS.build(dict(type="maskfeat.HOGGenerator", **kwargs))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fused(hog, frames, tokens=None, size=None):
    """Compute the kernel's result for frames (N, T', C, H, W), on the CPU."""
    tokens = None if tokens is None else tokens.to(DEVICE)
    found = hog.to(DEVICE).fused_histograms(frames.to(DEVICE), tokens, size or tuple(frames.shape[-2:]))
    hog.cpu()
    assert found is not None
    return found.cpu()


def whole(hog, images):
    """Compute the same for whole images, with the PyTorch operations."""
    assert not images.is_cuda
    return hog.hog(images)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(nbins=18, cell_size=4),
        dict(nbins=5, cell_size=12),
        dict(nbins=1, cell_size=2),
        dict(nbins=7, cell_size=24),
        dict(signed=True, nbins=18),
        dict(signed=True, nbins=2, gradient="central"),
        dict(gradient="central", norm="l1"),
        dict(norm="l2-hys", color_space="opponent"),
        dict(norm="none", color_space="gray", cell_size=6),
        dict(gaussian_window=16),
        dict(gaussian_window=10, cell_size=3),
    ],
)
def test_equals_the_operations(options):
    """Tokens of 24 and 48 pixels and cells of 3, 6, 12 and 24 pixels, which are no powers of two."""
    images, hog = noise(2, 3, 24, 48), build(**options)
    torch.testing.assert_close(fused(hog, images.unsqueeze(1)), whole(hog, images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.uint8], ids=lambda x: str(x)[6:]
)
def test_equals_the_operations_on_any_dtype(dtype):
    images = (noise(1, 3, 16, 32) * 40 + 128).clamp(0, 255).to(dtype)
    found = fused(build(), images.unsqueeze(1))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, whole(build(), images), atol=1e-5, rtol=1e-5)


@settings(max_examples=20)
@given(
    cells=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    grid=st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(1, 3)),
    cell_size=st.sampled_from([2, 3, 5, 8]),
    window=st.sampled_from([0, 6]),
    order=st.permutations([0, 1, 2, 3, 4]),
    share=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_masked_tokens_equal_the_operations(cells, grid, cell_size, window, order, share, seed):
    """Clips whose dimensions have any order in memory."""
    steps, rows, cols = grid
    height, width = cells[0] * cell_size, cells[1] * cell_size
    clips = noise(2, 3, 2 * steps, rows * height, cols * width, seed=seed)
    clips = clips.permute(order).contiguous().permute(*np.argsort(order).tolist())
    mask = torch.rand(2, *grid, generator=torch.Generator().manual_seed(seed)) < share
    hog = build(cell_size=cell_size, gaussian_window=window)
    found = fused(hog, clips[:, :, ::2].transpose(1, 2), mask.nonzero(), (height, width))
    assert found.shape == (mask.sum(), 3, 9, *cells)
    torch.testing.assert_close(found.flatten(1), hog(clips, mask), atol=1e-5, rtol=1e-5)


def test_blocks_of_cells_are_normalised_afterwards():
    images, hog = noise(1, 3, 16, 16), build(cell_size=4, block_size=2)
    cells = fused(hog, images.unsqueeze(1))
    torch.testing.assert_close(cells, whole(build(cell_size=4, norm="none"), images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, -2.0, 1e3])
@pytest.mark.parametrize("norm", ["none", "l1", "l2", "l2-hys"])
def test_constant_frames_give_zeros(norm, value):
    found = fused(build(norm=norm), torch.full((1, 1, 3, 16, 16), value))
    assert torch.equal(found, torch.zeros(1, 3, 9, 2, 2))


@pytest.mark.parametrize(("nbins", "cell_size", "window"), [(9, 8, 0), (9, 8, 16), (18, 4, 0)])
def test_equals_the_authors_recording(nbins, cell_size, window):
    """As exact as the PyTorch operations, see test_reference.py: a crop of the recorded image, without its border."""
    with np.load(ROOT / "tests" / "data" / "hog.npz") as arrays:
        image, mean, std = (torch.from_numpy(np.array(arrays[key])) for key in ("image_u8", "mean", "std"))
        reference = torch.from_numpy(np.array(arrays[f"hog_n{nbins}_p{cell_size}_g{window}"]))
    images = ((image.float() - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1))[:1]
    tokens = torch.zeros(4, 14, 14, dtype=torch.bool)
    tokens[0, :4] = True
    tokens[0, 10:, 10:] = True
    hog = build(nbins=nbins, cell_size=cell_size, gaussian_window=window)
    found = fused(hog, images.unsqueeze(1), tokens[:1].unsqueeze(0).nonzero(), (16, 16))
    expected = reference[:1].unfold(3, 16 // cell_size, 16 // cell_size).unfold(4, 16 // cell_size, 16 // cell_size)
    expected = expected.permute(0, 3, 4, 1, 2, 5, 6)[tokens[:1]]  # (M, C, n, u, v)
    assert found.shape == expected.shape
    wrong = ((found - expected).abs() > 1e-5).any(2)
    assert wrong.float().mean() <= 1e-4


@pytest.mark.parametrize("kind", ["noise", "blocks", "ramps"])
@pytest.mark.parametrize("options", [dict(nbins=9), dict(nbins=18), dict(nbins=18, signed=True), dict(nbins=12)])
def test_pixels_on_the_edges_of_bins(kind, options):
    """Use normalised 8-bit images, in which many gradients lie on an axis, up to rounding.

    The diagonals are edges of 12 bins. There the processor's arctangent, not rounding, decides about exactly 45
    degrees. Cells with a pixel on such an edge may differ, but the sum of their bins may not.
    """
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    blocks = torch.randint(4, (1, 3, 8, 8), generator=generator).mul(60)
    pixels = {
        "noise": torch.randint(256, (1, 3, 32, 32), generator=generator),
        "blocks": blocks.repeat_interleave(4, 2).repeat_interleave(4, 3),
        "ramps": torch.stack((3 * x, 250 - 5 * y, 100 + x - y))[None],
    }[kind]
    images = (pixels.float() - 114.75) / 57.375
    hog = build(norm="none", **options)
    found, expected = fused(hog, images.unsqueeze(1)), whole(hog, images)
    wrong = ((found - expected).abs() > 1e-4).any(2)  # (1, 3, 4, 4)
    if options["nbins"] == 12:
        gx, gy = sobel(F.pad(images, (1,) * 4, "reflect").double())
        place = torch.atan2(gx, gy) / math.pi * 12
        on_edge = (place - place.round()).abs() < 1e-5
        wrong &= ~F.max_pool2d(on_edge.float(), 8).bool()
    assert not wrong.any()
    torch.testing.assert_close(found.sum(2), expected.sum(2), atol=1e-4, rtol=1e-5)


def test_odd_numbers_of_signed_bins_are_left_to_the_operations():
    hog = build(nbins=5, signed=True)
    assert hog.fused_histograms(noise(1, 1, 3, 16, 16), None, (16, 16)) is None
    with pytest.raises(ValueError, match="even number of signed bins, not 5"):
        token_histograms(noise(1, 1, 3, 16, 16), None, (16, 16), 5, 8, signed=True)


def test_an_error_of_the_kernel_is_raised_and_does_not_end_its_use():
    frames, hog = noise(1, 1, 3, 16, 16), build().to(DEVICE)
    with pytest.raises((KeyError, TypeError, ValueError, CompilationError, InterpreterError)):
        hog.fused_histograms(frames.to(DEVICE, torch.complex64), None, (16, 16))
    assert fused(hog, frames) is not None


def test_the_switch_leaves_hog_to_the_operations():
    frames, hog = noise(1, 1, 3, 16, 16).to(DEVICE), build().to(DEVICE)
    with fast_paths(False):
        assert hog.fused_histograms(frames, None, (16, 16)) is None
    assert hog.fused_histograms(frames, None, (16, 16)) is not None


def in_another_process(code, **environment):
    """Run Python without the interpreter's setting, and return its output."""
    kept = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    kept.update(environment)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def test_the_operations_take_over():
    """The kernel never gets a tensor on the CPU. Without Triton nothing is logged. If the kernel cannot run, here
    because there is no GPU, this is logged once.
    """
    printed = in_another_process(
        """
import sys, torch
import maskfeat_plugin
from maskfeat_plugin.registry import MODELS
hog = MODELS.build(dict(type="maskfeat.HOGGenerator"))
images = torch.randn(1, 3, 16, 16)
expected = hog(images)
assert "maskfeat_plugin.ops.triton_histograms" not in sys.modules
triton, sys.modules["triton"] = sys.modules.get("triton"), None  # as if it were not installed
assert hog.fused_histograms(images.unsqueeze(1), None, (16, 16)) is None
print("without Triton", flush=True)
del sys.modules["triton"]
for _ in range(2):
    assert hog.fused_histograms(images.unsqueeze(1), None, (16, 16)) is None
assert torch.equal(hog(images), expected)
""",
        CUDA_VISIBLE_DEVICES="",
    )
    before, after = printed.split("without Triton")
    assert "HOG's kernel" not in before
    assert after.count("HOG's kernel does not run here") == 1


def test_compiles_for_gpus():
    """Compile to machine code, which needs no GPU: Triton's compiler may refuse code that its interpreter runs."""
    printed = in_another_process(
        """
import math
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from maskfeat_plugin.ops import triton_histograms as module
kernel = module._histograms
for capability, pixels, masked, signed in ((80, "*fp32", True, False), (90, "*bf16", False, True)):
    ahead, opposite = module.bin_edges(9, math.pi * (1 + signed), 9 * (1 + signed))
    constants = dict(
        stride_x=1, window=None, CHANNELS=3, ROWS=2, COLS=2, NBINS=9 * (1 + signed), BINS=16 * (1 + signed),
        HALF_TURN=9, EDGES=ahead, OPPOSITE_EDGES=opposite, CELL=8, CELL_COLUMNS=8, CELLS=16, SIGNED=signed,
        SOBEL=True, NORM=2, WINDOW=0)
    if not masked:
        constants["tokens"] = None
    types = dict(frames=pixels, tokens="*i64", out="*fp32")
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(n),): v for n, v in constants.items()})
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(num_warps=4))
    assert len(compiled.asm["cubin"]) > 1000
    print("compiled for", capability)
"""
    )
    assert printed.count("compiled for") == 2


@pytest.mark.parametrize("norm", ["none", "l1", "l2", "l2-hys"])
@pytest.mark.parametrize("signed", [False, True])
def test_nan_stays_nan(norm, signed):
    """NaN appears only in the cells that contain it."""
    images, hog = noise(1, 2, 16, 16), build(norm=norm, signed=signed, nbins=8)
    images[0, 1, 3, 3] = float("nan")
    found, expected = (cells.isfinite().all(2) for cells in (fused(hog, images.unsqueeze(1)), whole(hog, images)))
    assert torch.equal(found, expected) and not found[0, 1, 0, 0] and found.sum() == 7


def test_is_an_operator_for_compilers():
    """torch's own checks of the operator: its schema, its empty results, and its place in a graph."""
    frames = noise(2, 2, 3, 16, 16).to(DEVICE)
    tokens = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0]], device=DEVICE)
    for places in (tokens, None):
        arguments = (frames, places, 8, 8, 9, 4, False, "sobel", "l2", None)
        torch.library.opcheck(torch.ops.maskfeat.token_histograms, arguments)


def test_does_not_break_a_graph():
    hog, frames = build(cell_size=8).to(DEVICE), noise(2, 1, 3, 16, 16).to(DEVICE)
    tokens = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 1]], device=DEVICE)
    torch._dynamo.reset()
    compiled = torch.compile(hog.fused_histograms, backend="aot_eager", fullgraph=True)
    found = compiled(frames, tokens, (8, 8))
    assert torch.equal(found, hog.fused_histograms(frames, tokens, (8, 8)))
    torch._dynamo.reset()

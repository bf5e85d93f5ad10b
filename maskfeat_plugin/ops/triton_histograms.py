"""HOG of tokens by one fused GPU kernel. Its reference and fallback are the steps in ``gradient_histograms``.

The kernel reads the pixels and writes the result, and needs no other memory. Importing this module needs Triton, which
is part of torch's GPU builds. On a CPU it runs only in Triton's interpreter, for tests: set ``TRITON_INTERPRET=1``
before Triton is imported.
"""

import functools
import math
from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.runtime import errors

_COLUMNS = 128  # columns of pixels that a program processes side by side, one per thread
_NORMS = {"none": 0, "l1": 1, "l2": 2, "l2-hys": 3}
# Errors of a GPU that lacks the memory or the instructions for a kernel
_TOO_MUCH = tuple(getattr(errors, name) for name in ("OutOfResources", "PTXASError") if hasattr(errors, name))


class UnsupportedKernelError(RuntimeError):
    """Error for a device that cannot run the kernel, with any settings or with the given settings."""


def token_histograms(
    frames: Tensor,
    tokens: Tensor | None,
    token_size: tuple[int, int],
    nbins: int,
    cell_size: int,
    signed: bool = False,
    gradient: str = "sobel",
    norm: str = "l2",
    window: Tensor | None = None,
) -> Tensor:
    """Compute the normalised histograms of the cells of tokens.

    Differences are bitwise equal to the reference. No angle is computed: each pixel is compared with the edges of the
    bins. So a pixel may be in the next bin if its angle is within some roundings (1e-6 rad) of an edge. Many pixels lie
    on the axes and diagonals; there the edges are at the places where the reference's rounding puts them.

    Args:
        frames (Tensor): Frames (N, T', C, H, W) of any strides, floating point or uint8, H and W at least 2.
        tokens (Tensor, optional): int64 (M, 4), the place (n, t, row, column) of each token on the grid (N, T', H',
            W'). Defaults to None: each frame is one token.
        token_size (tuple[int, int]): Height and width of a token in pixels, multiples of ``cell_size``.
        nbins (int): Bins over 180 degrees, or over 360 if signed; a signed number of bins must be even.
        cell_size (int): Side of a cell in pixels.
        signed (bool): Whether opposite gradients get different bins. Defaults to False.
        gradient (str): "sobel" or "central". Defaults to "sobel".
        norm (str): "none", "l1", "l2" or "l2-hys", of each cell by itself. Defaults to "l2".
        window (Tensor, optional): Weights of the votes (side, side), contiguous, tiled over the frame. Defaults to
            None.

    Returns:
        Tensor: float32 (M, C, nbins, u, v), for the u x v cells of each token.

    Raises:
        ValueError: If ``nbins`` is odd and ``signed``.
        UnsupportedKernelError: If Triton cannot run any kernel, or this kernel, on the device.
    """
    if signed and nbins % 2:
        raise ValueError(f"The kernel takes an even number of signed bins, not {nbins}.")
    return _run(frames, tokens, *token_size, nbins, cell_size, signed, gradient, norm, window)


@torch.library.custom_op("maskfeat::token_histograms", mutates_args=())
def _run(
    frames: Tensor,
    tokens: Tensor | None,
    height: int,
    width: int,
    nbins: int,
    cell_size: int,
    signed: bool,
    gradient: str,
    norm: str,
    window: Tensor | None,
) -> Tensor:
    """Run the kernel, as an operator that ``torch.compile`` puts into its graph; see :func:`token_histograms`."""
    out = _empty_histograms(frames, tokens, height, width, nbins, cell_size, signed, gradient, norm, window)
    if not out.numel():
        return out
    fault = fault_of(frames.device)
    if fault:
        raise UnsupportedKernelError(fault)
    steps, channels, *frame_size = frames.shape[1:]
    count, _, _, rows, cols = out.shape
    half_turn = nbins // 2 if signed else nbins
    edges, opposite_edges = bin_edges(half_turn, math.pi if not signed else 2 * math.pi, nbins)
    cell_columns = triton.next_power_of_2(cell_size)
    cells = max(1, _COLUMNS // cell_columns)
    programs = (triton.cdiv(count * rows * cols, cells), channels)
    try:
        with torch.cuda.device_of(frames):
            _histograms[programs](
                frames,
                tokens,
                window,
                out,
                count,
                steps,
                *frame_size,
                *frames.stride(),
                *(tokens.stride() if tokens is not None else (0, 0)),
                CHANNELS=channels,
                ROWS=rows,
                COLS=cols,
                NBINS=nbins,
                BINS=triton.next_power_of_2(nbins),
                HALF_TURN=half_turn,
                EDGES=edges,
                OPPOSITE_EDGES=opposite_edges,
                CELL=cell_size,
                CELL_COLUMNS=cell_columns,
                CELLS=cells,
                SIGNED=signed,
                SOBEL=gradient == "sobel",
                NORM=_NORMS[norm],
                WINDOW=0 if window is None else window.shape[-1],
                num_warps=4,
            )
    except _TOO_MUCH as error:
        raise UnsupportedKernelError(f"{type(error).__name__}: {error}") from error
    return out


@_run.register_fake
def _empty_histograms(
    frames: Tensor,
    tokens: Tensor | None,
    height: int,
    width: int,
    nbins: int,
    cell_size: int,
    signed: bool,
    gradient: str,
    norm: str,
    window: Tensor | None,
) -> Tensor:
    """Return an empty result (M, C, nbins, u, v), all that a compiler has to know of the operator."""
    count = frames.shape[0] * frames.shape[1] if tokens is None else len(tokens)
    size = (count, frames.shape[2], nbins, height // cell_size, width // cell_size)
    return torch.empty(size, device=frames.device)


@torch.compiler.assume_constant_result
def runs_on(device: torch.device) -> bool:
    """Tell whether Triton runs kernels on a device; a compiler asks it once.

    Args:
        device (torch.device): The device.

    Returns:
        bool: Whether :func:`fault_of` finds nothing.
    """
    return not fault_of(device)


@functools.cache
def fault_of(device: torch.device) -> str:
    """Run the smallest possible kernel on a device, and return the reason if it fails.

    This separates devices on which Triton does not run from errors in the histogram kernel, which must be raised.

    Args:
        device (torch.device): The device.

    Returns:
        str: The reason why Triton runs no kernels there, such as a missing C compiler or an unknown GPU. Empty if it
            does.
    """
    out = torch.empty(1, device=device)
    try:
        with torch.cuda.device_of(out):
            _write_one[(1,)](out)
    except Exception as error:  # many kinds of error; a kernel of one line causes none of them
        if "out of memory" in str(error):
            raise
        return f"{type(error).__name__}: {error}"
    return ""


@functools.cache
def bin_edges(half_turn: int, period: float, nbins: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the edges of the bins in the reference's float32 arithmetic, as cotangents.

    A pixel of the half plane ``gx > 0`` is beyond the edge k = 1, 2, ... if ``gy <= gx * cotangent``. The reference
    rounds the angle. So an edge is half-way between two float32 numbers, and it differs for an angle and the opposite
    angle.

    Args:
        half_turn (int): Bins over 180 degrees.
        period (float): Angle that all bins cover, pi or 2 pi.
        nbins (int): Number of bins over that angle.

    Returns:
        tuple[tuple[float, ...], tuple[float, ...]]: Cotangents of the edges 1 to ``half_turn`` of gradients with
            ``gx > 0``, and with ``gx < 0``.
    """

    def bin_of(angle: Tensor) -> float:
        return angle.div(period).mul(nbins).floor().item()

    def edge(least: int) -> float:
        """Find the smallest angle whose bin is at least ``least``."""
        return _first(lambda angle: bin_of(angle) >= least, least * period / nbins)

    ahead = [edge(k) for k in range(1, half_turn + 1)]
    opposite = [edge(k - half_turn) + math.pi for k in range(1, half_turn)]
    return tuple(1 / math.tan(angle) for angle in ahead), tuple(1 / math.tan(angle) for angle in opposite)


def _first(holds: Callable[[Tensor], bool], near: float) -> float:
    """Find the first float32 number for which a condition holds; return half-way between it and the number before."""
    up, down = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    number = torch.tensor(near)
    while not holds(number):
        number = torch.nextafter(number, up)
    while holds(before := torch.nextafter(number, down)):
        number = before
    return (number.item() + before.item()) / 2


@triton.jit
def _write_one(out):
    tl.store(out, 1.0)


@triton.jit
def _three(line, left, middle, right, valid):
    """Load the pixel of each column and its two neighbours on a line, as float32."""
    a = tl.load(line + left, mask=valid, other=0).to(tl.float32)
    b = tl.load(line + middle, mask=valid, other=0).to(tl.float32)
    c = tl.load(line + right, mask=valid, other=0).to(tl.float32)
    return a, b, c


@triton.jit
def _histograms(
    frames,
    tokens,
    window,
    out,
    count,
    steps,
    height,
    width,
    stride_n,
    stride_t,
    stride_c,
    stride_y,
    stride_x,
    stride_token,
    stride_place,
    CHANNELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    NBINS: tl.constexpr,
    BINS: tl.constexpr,
    HALF_TURN: tl.constexpr,
    EDGES: tl.constexpr,
    OPPOSITE_EDGES: tl.constexpr,
    CELL: tl.constexpr,
    CELL_COLUMNS: tl.constexpr,
    CELLS: tl.constexpr,
    SIGNED: tl.constexpr,
    SOBEL: tl.constexpr,
    NORM: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """Compute the histograms of ``CELLS`` of all tokens' cells, one after the other, in one channel.

    A thread goes down the rows of one column of a cell and keeps the bins in registers, so no two threads add to the
    same number. The columns of a cell are summed at the end. ``CELL_COLUMNS`` and ``BINS`` are the next powers of two.
    """
    channel = tl.program_id(1)
    column = tl.arange(0, CELLS * CELL_COLUMNS)
    x = column % CELL_COLUMNS
    cell = tl.program_id(0) * CELLS + column // CELL_COLUMNS
    token = cell // (ROWS * COLS)
    valid = (token < count) & (x < CELL)
    cell_row, cell_col = cell // COLS % ROWS, cell % COLS
    if tokens is None:
        n, t = token // steps, token % steps
    else:
        place = tokens + token * stride_token
        n = tl.load(place, mask=valid, other=0)
        t = tl.load(place + stride_place, mask=valid, other=0)
        cell_row += tl.load(place + 2 * stride_place, mask=valid, other=0).to(tl.int32) * ROWS
        cell_col += tl.load(place + 3 * stride_place, mask=valid, other=0).to(tl.int32) * COLS
    x += cell_col * CELL
    top = cell_row * CELL

    # The border is reflected: row -1 is row 1, row `height` is row `height - 2`.
    frame = frames + n.to(tl.int64) * stride_n + t.to(tl.int64) * stride_t + channel.to(tl.int64) * stride_c
    left, middle = tl.abs(x - 1) * stride_x, x * stride_x
    right = tl.where(x + 1 < width, x + 1, width - 2) * stride_x
    above = tl.abs(top - 1)
    below = tl.where(top + CELL < height, top + CELL, height - 2)
    a0, b0, c0 = _three(frame + above.to(tl.int64) * stride_y, left, middle, right, valid)
    line = frame + top.to(tl.int64) * stride_y
    a1, b1, c1 = _three(line, left, middle, right, valid)

    bins = tl.arange(0, BINS)[:, None]
    votes = tl.zeros([BINS, CELLS * CELL_COLUMNS], tl.float32)
    for i in tl.static_range(CELL):
        if i + 1 < CELL:
            line += stride_y
        else:
            line = frame + below.to(tl.int64) * stride_y
        a2, b2, c2 = _three(line, left, middle, right, valid)
        if SOBEL:  # in the reference's order: where a difference should be zero, rounding decides the orientation
            gx = a0 - c0 + 2 * a1 - 2 * c1 + a2 - c2
            gy = a0 + 2 * b0 + c0 - a2 - 2 * b2 - c2
        else:
            gx, gy = a1 - c1, b0 - b2
        vote = tl.sqrt(gx * gx + gy * gy)
        if WINDOW > 0:
            weight = window + (top + i) % WINDOW * WINDOW + x % WINDOW
            vote *= tl.load(weight, mask=valid, other=0).to(tl.float32)

        opposite = (gx < 0) | (gy <= gx * EDGES[HALF_TURN - 1])
        gx, gy = tl.where(opposite, -gx, gx), tl.where(opposite, -gy, gy)
        for k in tl.static_range(HALF_TURN):
            here = vote
            if k + 1 < HALF_TURN:
                edge = gx * EDGES[k]
                if 4 * (k + 1) % HALF_TURN == 0:  # an axis or a diagonal
                    edge = gx * tl.where(opposite, OPPOSITE_EDGES[k], EDGES[k])
                beyond = gy <= edge
                here = tl.where(beyond, 0.0, vote)
                vote = tl.where(beyond, vote, 0.0)
            if SIGNED:
                votes = tl.where(bins == k, votes + tl.where(opposite, 0.0, here)[None, :], votes)
                votes = tl.where(bins == HALF_TURN + k, votes + tl.where(opposite, here, 0.0)[None, :], votes)
            else:
                votes = tl.where(bins == k, votes + here[None, :], votes)
        a0, b0, c0, a1, b1, c1 = a1, b1, c1, a2, b2, c2

    histograms = tl.sum(tl.reshape(votes, [BINS, CELLS, CELL_COLUMNS]), 2)
    if NORM == 1:
        histograms /= tl.maximum(tl.sum(histograms, 0), 1e-12)[None, :]
    elif NORM >= 2:
        histograms /= tl.maximum(tl.sqrt(tl.sum(histograms * histograms, 0)), 1e-12)[None, :]
    if NORM == 3:
        histograms = tl.where(histograms > 0.2, 0.2, histograms)  # NaN stays NaN, unlike with tl.minimum
        histograms /= tl.maximum(tl.sqrt(tl.sum(histograms * histograms, 0)), 1e-12)[None, :]

    cell = tl.program_id(0) * CELLS + tl.arange(0, CELLS)
    token = cell // (ROWS * COLS)
    plane = (token.to(tl.int64) * CHANNELS + channel) * NBINS  # first plane of the output of a token and channel
    target = out + (plane[None, :] + bins) * (ROWS * COLS) + (cell % (ROWS * COLS))[None, :]
    tl.store(target, histograms, mask=(bins < NBINS) & (token < count)[None, :])
